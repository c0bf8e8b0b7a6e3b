"""What people write for an element: `H1`, `H+`, `h`, `D`; what is none: `X`, `Bq`; text columns."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ase.data import chemical_symbols

from dpa2.data.structures.structure import FileReport
from schemas.base.errors import DataError


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file as it comes: any line ends, a byte order mark, bytes that are no UTF-8."""
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        yield stream


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


def short_reason(error: BaseException) -> str:
    """Return what an exception of another library says, in one short line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, AssertionError | StopIteration):
        return "a part of it is missing"
    if not text or isinstance(error, KeyError):
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 200 else f"{text[:200]}..."


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


def symbols_of(
    labels: Iterable[object], known: Sequence[str], report: FileReport
) -> tuple[str, ...]:
    """Return the names of atoms: those in `known` as they stand, else elements.

    Raises:
        DataError: If a label is no element; says which atom's.
    """
    named = [str(label) for label in labels]
    meant: dict[str, str] = {}
    for label in dict.fromkeys(named):
        if label in known:
            meant[label] = label
            continue
        element = element_of(label)
        if element is None:
            raise _no_element(label, named.index(label))
        if element != label:
            report.note(f"atoms called {label} are taken as {element}")
        meant[label] = element
    return tuple(meant[label] for label in named)


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


def _no_element(label: str, atom: int) -> DataError:
    shown = label if len(label) <= 20 else f"{label[:20]}..."
    where = f"atom {atom} (counted from 0) is called {shown!r}"
    if label.lower() in _GHOSTS or _GHOST.fullmatch(label):
        return DataError(
            f"{where}: a ghost or dummy atom, no element",
            hint="take such atoms out of the file; they carry no electrons and no forces",
        )
    if label.lstrip("-").isdigit():
        return DataError(
            f"{where}: a number, either of an element or of a type",
            hint="write element symbols, or name the types 1, 2, ... in order: --type-map 'O H'",
        )
    return DataError(
        f"{where}, which is no element", hint="write element symbols: H, C, Fe; or --type-map names"
    )
