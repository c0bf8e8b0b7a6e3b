"""Names as people write them: the nearest of several, and the chemical elements."""

import difflib
from collections.abc import Iterable


def nearest(word: object, choices: Iterable[str]) -> str | None:
    """Return the choice most like a word, or None if none is like it.

    Case and the difference between `-` and `_` count little; a choice that the word contains (or
    that contains it) counts as alike.
    """
    if not isinstance(word, str) or not word:
        return None
    options = {_plain(choice): choice for choice in reversed(list(choices))}
    plain = _plain(word)
    if plain in options:
        return options[plain]
    close = difflib.get_close_matches(plain, options, n=1, cutoff=0.66)
    if close:
        return options[close[0]]
    within = [key for key in options if len(plain) > 2 and (plain in key or key in plain)]
    return options[min(within, key=lambda key: abs(len(key) - len(plain)))] if within else None


def is_sure(word: object, choices: Iterable[str]) -> bool:
    """Return whether only one choice is like a word, so that it must be the one meant."""
    if not isinstance(word, str) or len(word) < 3:
        return False
    options = {_plain(choice) for choice in choices}
    plain = _plain(word)
    return plain in options or len(difflib.get_close_matches(plain, options, n=2, cutoff=0.8)) == 1


def did_you_mean(word: object, choices: Iterable[str]) -> str | None:
    """Return the hint "did you mean ...?", or the list of choices if none is near."""
    options = list(choices)
    best = nearest(word, options)
    if best is not None:
        return f"did you mean `{best}`?"
    return f"one of {', '.join(f'`{option}`' for option in options)}" if options else None


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_")


SYMBOLS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S",
    "Cl", "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga",
    "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd",
    "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm",
    "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os",
    "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa",
    "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg",
    "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
)  # fmt: skip
"""Symbols in the order of atomic numbers, hydrogen first."""

_NAMES = {
    "hydrogen": "H", "helium": "He", "lithium": "Li", "carbon": "C", "nitrogen": "N",
    "oxygen": "O", "fluorine": "F", "sodium": "Na", "magnesium": "Mg", "aluminium": "Al",
    "aluminum": "Al", "silicon": "Si", "phosphorus": "P", "sulfur": "S", "sulphur": "S",
    "chlorine": "Cl", "potassium": "K", "calcium": "Ca", "titanium": "Ti", "chromium": "Cr",
    "manganese": "Mn", "iron": "Fe", "cobalt": "Co", "nickel": "Ni", "copper": "Cu",
    "zinc": "Zn", "bromine": "Br", "silver": "Ag", "tin": "Sn", "iodine": "I", "platinum": "Pt",
    "gold": "Au", "lead": "Pb",
}  # fmt: skip


def symbol_like(name: str) -> str | None:
    """Return the element that a name probably means: other case, blanks, the English name."""
    plain = name.strip()
    if plain.capitalize() in SYMBOLS:
        return plain.capitalize()
    english = nearest(plain, _NAMES) if len(plain) > 3 else None
    return _NAMES[english] if english else None


def by_atomic_number(names: Iterable[str]) -> list[str]:
    """Return names in the order of the elements; what is no element comes last, as it came."""
    order = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    return sorted(names, key=lambda name: order.get(name, len(order)))
