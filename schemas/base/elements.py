"""The chemical elements."""

from collections.abc import Iterable

from schemas.base.suggest import nearest

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
