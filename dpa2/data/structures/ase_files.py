"""What ASE reads: XYZ in every dialect, a frame at a time, and its other formats."""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.extxyz import read_xyz
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from dpa2.data.structures.labels import labels_of
from dpa2.data.structures.structure import (
    MASSES,
    FrameFaultError,
    Items,
    Reading,
    Structure,
    attempt,
    column_of,
    foreign,
    known_to_ase,
    numbered,
    open_text,
    symbols_of,
    with_word,
)
from schemas.base.errors import DataError

_ELEMENTS = len(chemical_symbols)
_SHOWN = 12
# ASE would ask a server, run what a folder names, or start a program to read them.
_NOT_READ = {"postgresql", "mysql", "mariadb", "bundletrajectory", "castep-cell", "gpw"}


def read(path: Path, ase_format: str | None, reading: Reading) -> Items:
    """Yield the frames of a file in a format of ASE; None lets ASE look for it.

    Raises:
        DataError: If ASE cannot read it.
    """
    for atoms in _iterate(path, ase_format, reading):
        if isinstance(atoms, FrameFaultError):
            yield atoms
            return
        if reading.format_name in _CONVENTIONS:
            _CONVENTIONS[reading.format_name](path, atoms, reading)
        if reading.format_name == "espresso-out" and _without_an_energy(atoms):
            yield FrameFaultError("its electrons are not converged: it has forces and no energy")
            continue
        yield attempt(from_ase, atoms, reading)


def _of_pdb(path: Path, atoms: Atoms, reading: Reading) -> None:
    """Refuse names of atoms that mean two elements; a cell of 1 x 1 x 1 Å stands for none.

    Raises:
        DataError: If the file has no elements: `CA` may be carbon or calcium.
    """
    with open_text(path) as stream:
        for line in stream:
            if line.startswith(("ATOM  ", "HETATM")) and not line[76:78].strip():
                raise DataError(
                    f"an atom called {line[12:16].strip()} has no element (columns 77, 78)",
                    hint="names such as CA or HG mean two elements; add the columns",
                )
    if (atoms.cell.array == np.eye(3)).all():
        reading.note("its cell of 1 x 1 x 1 Å stands for none: it is not periodic")
        atoms.cell, atoms.pbc = None, False


def _of_gromacs(_: Path, atoms: Atoms, reading: Reading) -> None:
    """Say which elements ASE takes the names of atoms for."""
    names = atoms.arrays.get("atomtypes", ())
    told = dict(zip(map(str, names), atoms.symbols, strict=False))
    listed = ", ".join(f"{name} {symbol}" for name, symbol in list(told.items())[:_SHOWN])
    reading.note(f"elements are told from the names of atoms: {listed}")


def _of_xsf(_: Path, atoms: Atoms, reading: Reading) -> None:
    if atoms.calc is not None and reading.keys is not None:
        reading.note(
            "forces of XSF are in Hartree/Å and converted; those of aenet are in eV/Å and would be "
            "27 times too large (--forces-key none)"
        )


# What formats leave to conventions.
_CONVENTIONS = {"proteindatabank": _of_pdb, "gromacs": _of_gromacs, "xsf": _of_xsf}


def _without_an_energy(atoms: Atoms) -> bool:
    """Tell whether pw.x printed forces after `convergence NOT achieved`."""
    results = {} if atoms.calc is None else atoms.calc.results
    return results.get("energy") is None and results.get("forces") is not None


def from_ase(atoms: Atoms, reading: Reading, symbols: tuple[str, ...] | None = None) -> Structure:
    """Return a structure of ASE's with its labels.

    Args:
        atoms: As ASE reads it, the calculator with the results in it.
        reading: How to read, and where remarks go.
        symbols: Names of the atoms, where they are not ASE's.

    Raises:
        FrameFaultError: If an atom is no element.
        DataError: If labels are not clear.
    """
    if symbols is None:
        numbers = atoms.numbers.tolist()
        names = [chemical_symbols[n] if 0 <= n < _ELEMENTS else n for n in numbers]
        symbols = symbols_of(names, reading)
    sites = atoms.info.get("occupancy")
    if isinstance(sites, dict) and any(set(site.values()) != {1.0} for site in sites.values()):
        raise FrameFaultError(
            "some of its sites are occupied in part, which one structure cannot be"
        )
    labels = labels_of(atoms, reading)
    x, y, z = (bool(periodic) for periodic in atoms.pbc)
    return Structure(
        source=reading.where,
        symbols=symbols,
        coord=np.array(atoms.positions, dtype=np.float64),
        box=np.array(atoms.cell.array, dtype=np.float64) if x or y or z else None,
        labels=labels,
        pbc=(x, y, z),
        atoms=atoms,
    )


def _iterate(
    path: Path, ase_format: str | None, reading: Reading
) -> Iterator[Atoms | FrameFaultError]:
    """Yield what ASE reads; in place of a frame that it cannot read, why."""
    kind = ase_format
    if kind is None:
        unknown = (UnknownFileTypeError, OSError, ValueError, RuntimeError)
        with foreign(), contextlib.suppress(*unknown):
            kind = filetype(str(path))
    if kind not in ioformats:
        raise DataError(
            "cannot tell the format from its name or its content, and ASE cannot read it",
            hint="name it: --from extxyz, vasp/outcar, cp2k/output, lammps/dump, any of dpdata's "
            "or ASE's formats",
        )
    if kind in _NOT_READ:
        raise DataError(f"{kind} is not read", hint="export it: ase convert IN OUT.extxyz")
    reading.format_name = kind
    said = f"ASE cannot read structures from this file as {kind}: "
    with foreign(DataError, said, hint="is it complete? is --from right?"):
        frames = iter(ase.io.iread(str(path), index=":", format=kind))
        atoms = next(frames, None)
    while atoms is not None:
        yield atoms
        try:
            with foreign():
                atoms = next(frames, None)
        except FrameFaultError as error:
            yield FrameFaultError(f"{error.message}; the rest of the file is lost")
            return


def set_masses_of_isotopes(atoms: Atoms, labels: Sequence[str]) -> None:
    """Give atoms that are called D or T their masses."""
    isotopes = {atom: MASSES[label] for atom, label in enumerate(labels) if label in MASSES}
    if isotopes:
        masses = atoms.get_masses()
        masses[list(isotopes)] = list(isotopes.values())
        atoms.set_masses(masses)  # type: ignore[no-untyped-call]


_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|\{[^}]*\}')
_KEY = re.compile(r"(?:^|\s)([A-Za-z_][\w.-]*)\s*=")
_PROPERTIES = re.compile(r'(?:^|\s)Properties\s*=\s*"?([^\s"]+)')
_SPECIES = ("species", "element", "elements", "symbols", "symbol")
# Some programs write these in lower case, and ASE knows one spelling.
_KNOWN_KEYS = re.compile(r"(?i)(?:(?<=\s)|^)(lattice|properties|pbc)(?=\s*=)")
_SPELLING = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
# ASE wants nine numbers here, in quotes.
_TENSOR = re.compile(
    r"(?P<key>(?:^|\s)(?:stress|virial)\s*=\s*)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[\[.*?\]\]|\[[^\]]*\])"
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf")
# What i-PI writes: a cell, and units that are Bohr's unless it says so.
_IPI = re.compile(r"CELL[({](?:abcABC|H|GENH)[)}]|\b(?:positions|forces|velocities)\{\w+\}")
_OTHER_CELL = re.compile(r"(?i)\b(?:unit)?(?:cell|box|cryst1?|crystal)\b[^\w-]*-?\d+\.?\d*\s")
# The vectors of a cell that some programs write after the atoms.
_VECTOR = re.compile(r"VEC[123]\b")


def read_xyz_file(path: Path, reading: Reading) -> Items:
    """Yield the frames of an XYZ file.

    Raises:
        DataError: If it does not begin as XYZ does, or labels are not clear.
    """
    with open_text(path) as stream:
        for frame in _frames(stream):
            yield frame if isinstance(frame, Exception) else attempt(_structure, frame, reading)


def _frames(stream: TextIO) -> Iterator[list[str] | FrameFaultError]:
    """Yield the lines of each frame, or why there is none; what follows a lost count is lost."""
    first = True
    pending = ""
    while line := pending or stream.readline():
        pending = ""
        if not line.strip():
            continue
        if not line.strip().isdecimal():
            shown = " ".join(line.split())[:40]
            lost = f"a number of atoms should be where {shown!r} is"
            if first:
                raise DataError(lost, hint="the first line of XYZ is the number of atoms alone")
            yield FrameFaultError(f"{lost}; the rest of the file is lost")
            return
        first = False
        count = int(line) if len(line.strip()) < 12 else 10**12
        lines = [line, *islice(stream, count + 1)]
        if len(lines) < count + 2:
            there = max(len(lines) - 2, 0)
            yield FrameFaultError(f"the file ends after {there} of its {line.strip()} atoms")
            return
        if _is_cut(lines[2:]):
            yield FrameFaultError("the file ends in the middle of its last line")
            return
        while len(lines) < count + 5 and _VECTOR.match(pending := stream.readline()):
            lines.append(pending)
            pending = ""
        yield lines


def _is_cut(rows: list[str]) -> bool:
    """Tell whether the last number of a file has fewer digits than those above it."""
    if len(rows) < 2 or rows[-1].endswith("\n") or not rows[-1].split():
        return False
    others = [row.split()[-1] for row in rows[:-1] if row.split()]
    return len(rows[-1].split()[-1].lstrip("-")) < min(len(word.lstrip("-")) for word in others)


def _structure(lines: list[str], reading: Reading) -> Structure:
    count = int(lines[0])
    if count == 0:
        raise FrameFaultError("it has no atoms")
    comment = _KNOWN_KEYS.sub(lambda found: _SPELLING[found[1].lower()], lines[1])
    properties = _PROPERTIES.search(comment)
    columns = properties[1].split(":") if properties else []
    _look_for_other_cells(comment, reading)
    _refuse_repeated("its comment line gives {} more than once",
                     _KEY.findall(_QUOTED.sub("", comment)))  # fmt: skip
    _refuse_repeated("its Properties name the column {} twice", columns[::3])
    _check_columns(columns[2::3], len(lines[2].split()))
    lines[1] = _TENSOR.sub(_nine_numbers, comment)
    symbols: tuple[str, ...] | None = None
    labels: list[str] = []
    column = _species_column(columns) if properties else 0
    if column is not None:
        labels = column_of(lines[2 : count + 2], column)
        symbols = _names(labels, reading)
        for atom, name in enumerate(known_to_ase(symbols)):
            # What ASE does not know as an element keeps its name in `symbols`.
            if labels[atom] and name != labels[atom]:
                lines[atom + 2] = with_word(lines[atom + 2], column, name)
    with foreign():
        atoms = next(iter(read_xyz(io.StringIO("".join(lines)), index=0)))
    if len(atoms) != count:
        raise FrameFaultError(f"it has {len(atoms)} atoms in place of {count}")
    set_masses_of_isotopes(atoms, labels)
    return from_ase(atoms, reading, symbols)


def _names(labels: list[str], reading: Reading) -> tuple[str, ...]:
    if reading.type_names and all(label.isdecimal() for label in labels):
        reading.note(f"types 1, 2, ... are taken as {' '.join(reading.type_names)} (--type-map)")
        return numbered(map(int, labels), reading.type_names, "file", 1)
    return symbols_of(labels, reading)


def _species_column(columns: list[str]) -> int | None:
    """Return which word of a line names the element; None where numbers of elements do."""
    column = 0
    for name, width in zip(columns[::3], columns[2::3], strict=False):
        if name.lower() in _SPECIES:
            return column
        column += int(width)
    return None


def _check_columns(widths: list[str], words: int) -> None:
    """Refuse a comment line that promises more columns than there are, or gigabytes of them."""
    if any(not width.isdecimal() or len(width) > 6 for width in widths):
        raise FrameFaultError("its Properties have a column count that is none")
    if (total := sum(map(int, widths))) > words:
        raise FrameFaultError(f"its Properties name {total} columns and its first line has {words}")


def _nine_numbers(found: re.Match[str]) -> str:
    """Return a stress or virial of nine numbers, or of six (xx yy zz yz xz xy), as nine."""
    numbers = _NUMBER.findall(found["value"])
    if len(numbers) == 6:
        numbers = [numbers[i] for i in (0, 5, 4, 5, 1, 3, 4, 3, 2)]
    return f'{found["key"]}"{" ".join(numbers)}"' if len(numbers) == 9 else found[0]


def _look_for_other_cells(comment: str, reading: Reading) -> None:
    """Refuse a comment line of i-PI; note one with a cell in another form than `Lattice`."""
    if _IPI.search(comment):
        raise FrameFaultError(
            "its comment line is i-PI's, which has a cell and units of its own",
            hint="let i-PI write it for ASE (format='ase'), or convert it to extended XYZ in Å",
        )
    if "Lattice" not in comment and (found := _OTHER_CELL.search(comment)):
        reading.note(
            f"its comment line has {found[0].strip()[:20]!r}: a cell is read from Lattice only, "
            "and without it the structure is not periodic"
        )


def _refuse_repeated(said: str, names: list[str]) -> None:
    """Refuse a name that is given twice: which of its values is meant?"""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise FrameFaultError(said.format(", ".join(twice)))
