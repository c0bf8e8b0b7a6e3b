"""Structures that ASE reads: any of its formats, and one `Atoms` after the other."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from dpa2.data.structures.elements import MASSES, open_text, short_reason, symbols_of
from dpa2.data.structures.labels import labels_of
from dpa2.data.structures.structure import (
    Dropped,
    FileReport,
    FrameFaultError,
    ReadOptions,
    Structure,
)
from schemas.base.errors import DataError

_ELEMENTS = len(chemical_symbols)
_SHOWN = 12
# What names atoms by their place in a molecule.
_BY_ATOM_NAME = {"proteindatabank", "gromacs"}
# ASE would ask a server, run what a folder names, or start a program to read them.
_NOT_READ = {"postgresql", "mysql", "mariadb", "bundletrajectory", "castep-cell", "gpw"}


def read(
    path: Path, ase_format: str | None, options: ReadOptions, report: FileReport
) -> Iterator[Structure | Dropped]:
    """Yield the frames of a file in a format of ASE.

    Args:
        path: The file.
        ase_format: ASE's name; None lets ASE look.
        options: How to read.
        report: Where remarks go.

    Raises:
        DataError: If ASE cannot read it.
    """
    for number, atoms in enumerate(_iterate(path, ase_format, report)):
        if report.format_name in _BY_ATOM_NAME and not isinstance(atoms, str):
            _told_from_names(path, atoms, report)
        if isinstance(atoms, str):
            yield Dropped(number, atoms)
            return
        _mend_conventions(atoms, options, report)
        if report.format_name == "espresso-out" and _without_an_energy(atoms):
            yield Dropped(number, "its electrons are not converged: it has forces and no energy")
            continue
        try:
            yield from_ase(atoms, f"{report.file} frame {number}", options, report)
        except FrameFaultError as error:
            yield Dropped(number, error.message, error.hint)


def _told_from_names(path: Path, atoms: Atoms, report: FileReport) -> None:
    """Say which element ASE takes the names of atoms for; refuse those that mean two.

    Raises:
        DataError: If a PDB file has no elements: `CA` may be carbon or calcium.
    """
    if report.format_name == "proteindatabank":
        with open_text(path) as stream:
            for line in stream:
                if line.startswith(("ATOM  ", "HETATM")) and not line[76:78].strip():
                    raise DataError(
                        f"an atom called {line[12:16].strip()} has no element (columns 77, 78)",
                        hint="names such as CA or HG mean two elements; add the columns",
                    )
        return
    names = atoms.arrays.get("atomtypes", ())
    told = dict(zip(map(str, names), atoms.symbols, strict=False))
    listed = ", ".join(f"{name} {symbol}" for name, symbol in list(told.items())[:_SHOWN])
    report.note(f"elements are told from the names of atoms: {listed}")


def _mend_conventions(atoms: Atoms, options: ReadOptions, report: FileReport) -> None:
    """Say what a format leaves to conventions; a PDB cell of 1 x 1 x 1 Å stands for none."""
    if report.format_name == "proteindatabank" and (atoms.cell.array == np.eye(3)).all():
        report.note("its cell of 1 x 1 x 1 Å stands for none: it is not periodic")
        atoms.cell, atoms.pbc = None, False
    if report.format_name == "xsf" and atoms.calc is not None and options.keys is not None:
        report.note("forces of XSF are in Hartree/Å and converted; those of aenet are in eV/Å and "
                    "would be 27 times too large (--forces-key none)")  # fmt: skip


def _without_an_energy(atoms: Atoms) -> bool:
    """Tell whether pw.x printed forces after `convergence NOT achieved`."""
    results = {} if atoms.calc is None else atoms.calc.results
    return results.get("energy") is None and results.get("forces") is not None


def from_ase(
    atoms: Atoms,
    where: str,
    options: ReadOptions,
    report: FileReport,
    symbols: tuple[str, ...] | None = None,
) -> Structure:
    """Return a structure of ASE's with its labels.

    Args:
        atoms: As ASE reads it, the calculator with the results in it.
        where: File and frame.
        options: How to read.
        report: Where remarks go.
        symbols: Names of the atoms, where they are not ASE's.

    Raises:
        FrameFaultError: If an atom is no element.
        DataError: If labels are not clear.
    """
    if symbols is None:
        try:
            numbers = atoms.numbers.tolist()
            names = [chemical_symbols[n] if 0 <= n < _ELEMENTS else n for n in numbers]
            symbols = symbols_of(names, options.known_names, report)
        except DataError as error:
            raise FrameFaultError(error.message, hint=error.hint) from error
    sites = atoms.info.get("occupancy")
    if isinstance(sites, dict) and any(set(site.values()) != {1.0} for site in sites.values()):
        raise FrameFaultError(
            "some of its sites are occupied in part, which one structure cannot be"
        )
    labels = {}
    if options.keys is not None:
        labels = labels_of(atoms, where, options.keys, report)
    pbc = tuple(bool(periodic) for periodic in atoms.pbc)
    return Structure(
        source=where,
        symbols=symbols,
        coord=np.array(atoms.positions, dtype=np.float64),
        box=np.array(atoms.cell.array, dtype=np.float64) if any(pbc) else None,
        labels=labels,
        pbc=(pbc[0], pbc[1], pbc[2]),
        atoms=atoms,
    )


def _iterate(path: Path, ase_format: str | None, report: FileReport) -> Iterator[Atoms | str]:
    """Yield what ASE reads; in place of a frame that it cannot read, why."""
    import ase.io
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    kind = ase_format
    if kind is None:
        with contextlib.suppress(UnknownFileTypeError, OSError, ValueError, RuntimeError), quiet():
            kind = filetype(str(path))
    if kind not in ioformats:
        raise DataError(
            "cannot tell the format from its name or its content, and ASE cannot read it",
            hint="name it: --from extxyz, vasp/outcar, cp2k/output, lammps/dump, any of dpdata's "
            "or ASE's formats",
        )
    if kind in _NOT_READ:
        raise DataError(f"{kind} is not read", hint="export it: ase convert IN OUT.extxyz")
    report.format_name = kind
    number = 0
    frames = None
    while True:
        with quiet():
            try:
                if frames is None:
                    frames = iter(ase.io.iread(str(path), index=":", format=kind))
                atoms = next(frames)
            except StopIteration:
                return
            except Exception as error:
                # ASE's readers raise whatever goes wrong inside them.
                reason = short_reason(error)
                if number == 0:
                    raise DataError(
                        f"ASE cannot read structures from this file as {kind}: {reason}",
                        hint="is it complete? is --from right?",
                    ) from error
                yield f"it cannot be read: {reason}; the rest of the file is lost"
                return
        number += 1
        yield atoms


def set_masses_of_isotopes(atoms: Atoms, labels: Sequence[str]) -> None:
    """Give atoms that are called D or T their masses."""
    isotopes = {atom: MASSES[label] for atom, label in enumerate(labels) if label in MASSES}
    if isotopes:
        masses = atoms.get_masses()
        masses[list(isotopes)] = list(isotopes.values())
        atoms.set_masses(masses)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Keep what other libraries print from the terminal; yields their warnings."""
    sink = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("always")
        yield caught
