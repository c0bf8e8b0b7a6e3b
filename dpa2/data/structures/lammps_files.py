"""LAMMPS's dumps and data files: atoms by element, never by the number of a type alone."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from ase.io.lammpsdata import read_lammps_data
from ase.io.lammpsrun import read_lammps_dump_text

from dpa2.data.structures.ase_files import from_ase
from dpa2.data.structures.structure import (
    FrameFaultError,
    Items,
    Reading,
    Structure,
    attempt,
    column_of,
    element_of,
    foreign,
    known_to_ase,
    numbered,
    open_text,
    symbols_of,
    with_word,
)
from schemas.base.errors import DataError

_HEADS = ("ITEM: TIMESTEP", "ITEM: UNITS", "ITEM: TIME")
_STYLES = {"lj", "real", "metal", "si", "cgs", "electron", "micro", "nano"}
_PERIODICITY = re.compile(r"\b[pfsm]{2}\b")
# What this program writes into the first line of a data file.
_BOUNDARY = re.compile(r"\bboundary = ([pm]) ([pm]) ([pm])\b")
_SECTION = re.compile(r"[A-Z][A-Za-z]+( [A-Z][a-z]+)*\s*(#.*)?$")
# Masses are written with few digits: 1.0 or 1.008 for H, 16 for O; no two elements are so near.
_NEAR = 0.05


def read_dump(path: Path, reading: Reading) -> Items:
    """Yield the frames of a text dump, atoms in the order of their ids.

    Raises:
        DataError: If it is no dump, or atoms have no element and `type_names` does not name them.
    """
    units = None
    with open_text(path) as stream:
        for lines in _dump_frames(stream):
            units = _section(lines, "ITEM: UNITS") or units
            yield attempt(_of_dump, lines, units, reading)


def _of_dump(lines: list[str], units: str | None, reading: Reading) -> Structure:
    atoms, symbols = _dump_atoms(lines, units or "metal", reading)
    if units is None and atoms.calc is not None:
        reading.note(
            "the dump does not name its units: forces are taken in eV/Å (metal); with dump_modify "
            "units yes it names them"
        )
    return from_ase(atoms, reading, symbols)


def _dump_frames(stream: TextIO) -> Iterator[list[str]]:
    """Yield the lines of each frame, those of its head included."""
    lines: list[str] = []
    has_atoms = False
    for line in stream:
        if not lines and line.strip() and not line.startswith("ITEM:"):
            raise DataError("it does not begin with ITEM:, as a text dump of LAMMPS does")
        if has_atoms and line.startswith(_HEADS):
            yield lines
            lines, has_atoms = [], False
        has_atoms = has_atoms or line.startswith("ITEM: ATOMS")
        if line.strip():
            lines.append(line)
    if lines:
        yield lines


def _section(lines: list[str], head: str) -> str | None:
    for line, following in pairwise(lines):
        if line.rstrip() == head:
            return following.strip()
        if line.startswith("ITEM: ATOMS"):
            break
    return None


def _dump_atoms(lines: list[str], units: str, reading: Reading) -> tuple[Atoms, tuple[str, ...]]:
    start = next((i for i, line in enumerate(lines) if line.startswith("ITEM: ATOMS")), None)
    count = _section(lines, "ITEM: NUMBER OF ATOMS")
    if start is None or count is None or not count.isdecimal():
        raise FrameFaultError("the file ends before its atoms, or its head is damaged")
    columns = lines[start].split()[2:]
    rows = lines[start + 1 :]
    short = sum(len(row.split()) < len(columns) for row in rows[-1:])
    if len(rows) - short != int(count):
        raise FrameFaultError(f"the file has {len(rows) - short} of its {count} atoms")
    if rows and not rows[-1].endswith("\n"):
        raise FrameFaultError("the file ends in the middle of its last line")
    if units not in _STYLES - {"lj"}:
        raise DataError(f"its units are {units[:20]!r}", hint="dump in metal or real units")
    order = _order_of_ids(rows, columns)
    head, rows, symbols = _named_rows(lines[start], columns, rows, reading)
    text = [_with_periodicity(line, reading) for line in lines[:start]]
    with foreign():
        atoms: Atoms = read_lammps_dump_text(
            io.StringIO("".join([*text, head, *rows])), index=0, units=units
        )
    return _without_made_up_energy(atoms, reading), tuple(symbols[i] for i in order)


def _order_of_ids(rows: list[str], columns: list[str]) -> list[int]:
    if "id" not in columns:
        return list(range(len(rows)))
    ids = column_of(rows, columns.index("id"))
    if len(set(ids)) < len(ids):
        raise FrameFaultError("two of its atoms have one id")
    if not all(word.isdecimal() for word in ids):
        raise FrameFaultError("an id of its atoms is no number")
    order: list[int] = np.argsort(np.array(ids, dtype=np.float64), kind="stable").tolist()
    return order


def _with_periodicity(line: str, reading: Reading) -> str:
    if not line.startswith("ITEM: BOX BOUNDS") or _PERIODICITY.search(line):
        return line
    reading.note("the file does not say which directions are periodic: all are taken to be")
    return f"{line.rstrip()} pp pp pp\n"


def _named_rows(
    head: str, columns: list[str], rows: list[str], reading: Reading
) -> tuple[str, list[str], tuple[str, ...]]:
    """Return head and rows with an element that ASE knows in each, and the names of the atoms."""
    if "element" in columns:
        column = columns.index("element")
        labels = column_of(rows, column)
        symbols = symbols_of(labels, reading)
        changed = zip(rows, known_to_ase(symbols), labels, strict=True)
        return head, [
            row if name == label else with_word(row, column, name) for row, name, label in changed
        ], symbols  # fmt: skip
    if "type" not in columns:
        raise DataError("its atoms have neither an element nor a type")
    column = columns.index("type")
    types = column_of(rows, column)
    if all(word.isdecimal() for word in types):
        symbols = numbered(map(int, types), reading.type_names, "dump", 1)
    else:  # type labels
        _refuse_atom_names(types, reading)
        symbols = symbols_of(types, reading)
        rows = [with_word(row, column, "0") for row in rows]
    pairs = zip(rows, known_to_ase(symbols), strict=True)
    named = [f"{row.rstrip()} {name}\n" for row, name in pairs]
    return f"{head.rstrip()} element\n", named, symbols


def _without_made_up_energy(atoms: Atoms, reading: Reading) -> Atoms:
    """Leave out the energy 0 that ASE puts beside forces, and forces that nobody asked for."""
    if atoms.calc is None:
        return atoms
    forces = atoms.calc.results.get("forces")
    atoms.calc = None
    if reading.keys is None or forces is None:
        return atoms
    if reading.keys.forces is None:
        reading.note(
            "forces of a dump are those of the potential it was run with and are left out; "
            "--forces-key forces takes them"
        )
    else:
        atoms.calc = SinglePointCalculator(atoms, forces=forces)  # type: ignore[no-untyped-call]
    return atoms


def read_data(path: Path, reading: Reading) -> Items:
    """Yield the one structure of a data file, atoms in the order of their ids.

    Elements are those of the section Atom Type Labels, of comments behind masses (as this program
    and Ovito write), those with these masses, or `type_names`: the first of these that tells all.

    Raises:
        DataError: If it cannot be read, or elements cannot be told.
    """
    with open_text(path) as stream:
        first = stream.readline()
        lines = stream.readlines()
    count = next((m[1] for line in lines if (m := re.match(r"\s*(\d+)\s+atoms\b", line))), None)
    if count is None or int(count) > len(lines):
        raise DataError(f"it has fewer than its {count or 'unknown number of'} atoms")
    found = re.search(r"units\s*=\s*([a-z]+)", first)
    names = _names_of_types(lines, reading)
    with foreign(DataError):
        atoms: Atoms = read_lammps_data(
            io.StringIO("".join([first, *_numbered_types(lines)])),
            Z_of_type={kind: atomic_numbers.get(name, 0) for kind, name in names.items()},
            sort_by_id=False,
            units=found[1] if found and found[1] in _STYLES else "metal",
        )
    if len(atoms) != int(count) or len(atoms) == 0:
        raise DataError(f"it has {len(atoms)} of its {count} atoms")
    for name in ("bonds", "angles", "dihedrals"):
        atoms.arrays.pop(name, None)  # they count atoms in another order
    atoms = atoms[np.argsort(atoms.arrays["id"], kind="stable")]
    symbols = tuple(names[int(kind)] for kind in atoms.arrays["type"])
    if found := _BOUNDARY.search(first):
        atoms.pbc = [word == "p" for word in found.groups()]
    else:
        reading.note("a data file does not say which directions are periodic: all are taken to be")
    yield from_ase(atoms, reading, symbols)


def _names_of_types(lines: list[str], reading: Reading) -> Mapping[int, str]:
    total = next((int(m[1]) for x in lines if (m := re.match(r"\s*(\d+)\s+atom types", x))), 0)
    masses = {kind: text.partition("#") for kind, text in _rows(lines, "Masses")}
    by_mass = {kind: _element_of_mass(mass) for kind, (mass, _, _) in masses.items()}
    labels = dict(_rows(lines, "Atom Type Labels"))
    if labels:
        if not all(by_mass.get(kind) for kind in labels):
            _refuse_atom_names(labels.values(), reading)
        named = dict(zip(labels, symbols_of(labels.values(), reading), strict=True))
        _compare_with_masses(named, labels, by_mass, reading)
        return named
    names: dict[int, str] = {}
    guessed = []
    for kind, (_, _, comment) in masses.items():
        words = comment.split()
        if words and (words[0] in reading.known_names or element_of(words[0])):
            names[kind] = symbols_of(words[:1], reading)[0]
            labels[kind] = words[0]
        elif (element := by_mass[kind]) is not None:
            names[kind] = element
            guessed.append(f"{kind} {element}")
    if len(names) < total or not names:
        if reading.type_names is not None and total <= len(reading.type_names):
            return dict(enumerate(reading.type_names, 1))
        raise DataError(
            f"the data file numbers its {total} atom types, and masses or comments do not tell the "
            "element of each",
            hint="name the element of each type, in order: --type-map 'O H'",
        )
    _compare_with_masses(names, labels, by_mass, reading)
    if guessed:
        reading.note(f"elements of types are told from their masses: {', '.join(guessed)}")
    return names


def _refuse_atom_names(labels: Iterable[str], reading: Reading) -> None:
    """Refuse labels that may name an atom's place in a molecule: CA, ho.

    Raises:
        FrameFaultError: Naming the first one.
    """
    for label in dict.fromkeys(labels):
        element = element_of(label)
        two = len(label) == 2 and label.isalpha() and label[0].upper() in atomic_numbers
        if two and element not in {None, label} and label not in reading.known_names:
            raise FrameFaultError(
                f"the type {label} may be {element}, or an atom of {label[0].upper()} by its "
                "place in a molecule",
                hint="name elements: dump_modify element, or a labelmap of element symbols",
            )


def _compare_with_masses(
    names: Mapping[int, str],
    labels: Mapping[int, str],
    by_mass: Mapping[int, str | None],
    reading: Reading,
) -> None:
    """Refuse a type called CA that has the mass of carbon.

    Raises:
        DataError: If the mass of a type is that of another element than its label means.
    """
    for kind, label in labels.items():
        element = by_mass.get(kind)
        if element in {None, "H", names[kind]} or label in reading.known_names:
            continue  # a mass of 1 is put where it does not matter
        raise DataError(
            f"type {kind} is called {label}, which would be {names[kind]}, and has the mass of "
            f"{element}",
            hint="write element symbols as labels, or behind the masses",
        )


def _numbered_types(lines: list[str]) -> list[str]:
    """Return the lines with numbers for the labels of types: ASE takes labels in a wrong order."""
    numbers = {text.split()[0]: str(kind) for kind, text in _rows(lines, "Atom Type Labels")}
    start = next((i for i, line in enumerate(lines) if line.split()[:1] == ["Atoms"]), None)
    if not numbers or start is None:
        return lines
    style = lines[start].partition("#")[2].strip()
    column = 1 if style in {"", "atomic", "charge"} else 2
    found = list(lines)
    for i in range(start + 1, len(lines)):
        words = lines[i].split()
        if words and not words[0].isdecimal():
            break
        if len(words) > column and words[column] in numbers:
            found[i] = with_word(lines[i], column, numbers[words[column]])
    return found


def _rows(lines: list[str], section: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each row of a section."""
    inside = False
    for line in lines:
        if _SECTION.match(line):
            inside = line.split("#")[0].strip() == section
        elif inside and line.strip():
            number, _, text = line.strip().partition(" ")
            if number.isdecimal() and text:
                yield int(number), text.strip()


def _element_of_mass(text: str) -> str | None:
    try:
        mass = float(text)
    except ValueError:
        return None
    nearest = int(np.argmin(np.abs(atomic_masses[1:] - mass))) + 1
    return chemical_symbols[nearest] if abs(atomic_masses[nearest] - mass) < _NEAR else None
