"""Structures that ASE reads: any of its formats, and one `Atoms` after the other."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from dpa2.data.structures.elements import MASSES, symbols_of
from dpa2.data.structures.labels import labels_of
from dpa2.data.structures.structure import (
    FrameFaultError,
    Items,
    Reading,
    Structure,
    attempt,
    foreign,
    open_text,
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
