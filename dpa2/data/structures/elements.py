"""What people write for an element: `H1`, `H+`, `h`, `D`; what is none: `X`, `Bq`."""

import re
from collections.abc import Iterable, Sequence

from ase.data import atomic_numbers, chemical_symbols

from dpa2.data.structures.structure import FrameFaultError, Reading
from schemas.base.errors import DataError

_ELEMENTS = frozenset(chemical_symbols[1:])
_ISOTOPES = {"D": "H", "T": "H"}
_GHOSTS = {"x", "xx", "bq", "gh", "vac", "du", "lp", "ep", "mw", "m"}
# A mass number before; a number, a charge, a tag after: 2H, H1, O2-, Fe3+, Fe_pv, Cu+2, C:1, N(am).
# Not a point: H.5 is VASP's hydrogen of half a charge, no element.
_DECORATED = re.compile(r"\d{0,3}([A-Z][a-z]?)(?:\d*[+-]?\d*|[_:'*].*|\(.*\))")
_GHOST = re.compile(r"(?i)(gh|ghost|bq|x)[-_:(@]?[A-Za-z]{0,2}\d*\)?")

MASSES = {"D": 2.01410177812, "T": 3.01604928199}
"""Masses (u) of the isotopes that have names of their own."""


def element_of(label: str) -> str | None:
    """Return the element that a label means, or None if it means none for sure."""
    if label in _ELEMENTS:
        return label
    if label in _ISOTOPES:
        return _ISOTOPES[label]
    if label.isalpha() and len(label) <= 2:
        return label.capitalize() if label.capitalize() in _ELEMENTS else None
    found = _DECORATED.fullmatch(label)
    return element_of(found[1]) if found and len(found[1]) < len(label) else None


def symbols_of(labels: Iterable[object], reading: Reading) -> tuple[str, ...]:
    """Return the names of atoms: those known as they stand, else elements.

    Raises:
        FrameFaultError: If a label is no element; says which atom's.
    """
    named = [str(label) for label in labels]
    meant: dict[str, str] = {}
    for label in dict.fromkeys(named):
        element = label if label in reading.known_names else element_of(label)
        if element is None:
            raise _no_element(label, named.index(label))
        if element != label:
            reading.note(f"atoms called {label} are taken as {element}")
        meant[label] = element
    return tuple(meant[label] for label in named)


def known_to_ase(symbols: Iterable[str]) -> list[str]:
    """Return the names with X, which ASE reads, in the place of those that are no elements."""
    return [name if name in atomic_numbers else "X" for name in symbols]


def numbered(
    types: Iterable[int], names: Sequence[str] | None, what: str, first: int
) -> tuple[str, ...]:
    """Return the names of numbered types.

    Args:
        types: Number of each atom's type.
        names: Name of each type, in order.
        what: Of what kind the file is, for messages.
        first: The number of the first type.

    Raises:
        DataError: If there are no names, or too few of them.
    """
    numbers = [int(kind) for kind in types]
    highest = max(numbers, default=first) - first + 1
    if min(numbers, default=first) < first:
        raise DataError(f"the {what} has the type {min(numbers)}, below {first}")
    if names is None or len(names) < highest:
        count = len(set(numbers))
        given = "" if names is None else f" and {len(names)} names are given"
        raise DataError(
            f"the {what} numbers its {count} atom types (up to {max(numbers, default=first)}) and "
            f"does not name them{given}",
            hint="name the element of each, in order: --type-map 'O H' (zoo data convert, predict)",
        )
    return tuple(names[number - first] for number in numbers)


def _no_element(label: str, atom: int) -> FrameFaultError:
    shown = label if len(label) <= 20 else f"{label[:20]}..."
    where = f"atom {atom} (counted from 0) is called {shown!r}"
    if label.lower() in _GHOSTS or _GHOST.fullmatch(label):
        return FrameFaultError(
            f"{where}: a ghost or dummy atom, no element",
            hint="take such atoms out of the file; they carry no electrons and no forces",
        )
    if label.lstrip("-").isdigit():
        return FrameFaultError(
            f"{where}: a number, either of an element or of a type",
            hint="write element symbols, or name the types 1, 2, ... in order: --type-map 'O H'",
        )
    return FrameFaultError(
        f"{where}, which is no element", hint="write element symbols: H, C, Fe; or --type-map names"
    )


def with_word(line: str, column: int, word: str) -> str:
    """Return a line of words with one of them replaced."""
    words = line.split()
    words[column] = word
    return " ".join(words) + "\n"


def column_of(lines: Sequence[str], column: int) -> list[str]:
    """Return one word of each line; empty where a line is too short."""
    found = []
    for line in lines:
        words = line.split(None, column + 1)
        found.append(words[column] if len(words) > column else "")
    return found
