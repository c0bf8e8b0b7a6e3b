"""The structure that a simulation starts from: one frame of a file, and how it goes on."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixConstraint
from ase.data import atomic_numbers

from dpa2.data.structures.reader import read_structures
from dpa2.data.structures.structure import FileReport, Structure
from dpa2.interfaces.lammps_input import HELD_COLUMNS, MASS_COLUMN
from dpa2.interfaces.structure_files import options_for, to_atoms
from schemas.errors import DataError


def starting_structure(
    reference: str,
    type_map: Sequence[str],
    format_name: str | None = None,
    type_names: Sequence[str] | None = None,
) -> tuple[Atoms, list[str]]:
    """Read the structure to start from, with velocities, masses and constraints where it has them.

    Args:
        reference: A file or system, whose first structure it is, or `FILE@N`: the structure number
            N, from 0; -1 is the last one.
        type_map: Elements of the model.
        format_name: Format of the file; None goes by name and content.
        type_names: Elements of the types 1, 2, ... of LAMMPS files that do not name them.

    Returns:
        The structure, and what a person should know of the reading, one sentence each.

    Raises:
        DataError: If there is no such structure, or the file cannot be read.
    """
    report = FileReport(reference)
    options = options_for(type_map, format_name, type_names)
    for structure in read_structures(reference, options, report):
        _refuse_other_names(structure)
        atoms = to_atoms(structure)
        atoms.arrays.pop("type", None)
        _take_columns(atoms)
        return atoms, report.sentences()
    raise DataError(f"{reference} holds no structure")


def _refuse_other_names(structure: Structure) -> None:
    """Refuse atoms whose name only the model knows (Hw, D): ASE and LAMMPS have no mass for it."""
    names = sorted({name for name in structure.symbols if not atomic_numbers.get(name)})
    if names:
        raise DataError(
            f"{structure.source} has atoms called {', '.join(names)}, which is no element: "
            "programs of molecular dynamics know no mass for it",
            hint="a run with such a model is written by hand: pair_coeff * * names its types",
        )


def _take_columns(atoms: Atoms) -> None:
    """Take masses and held directions from the columns that our LAMMPS inputs write of them."""
    masses = atoms.arrays.pop(MASS_COLUMN, None)
    if masses is not None:
        velocities = atoms.get_velocities()  # type: ignore[no-untyped-call]
        atoms.set_masses(masses)  # type: ignore[no-untyped-call]
        atoms.set_velocities(velocities)  # type: ignore[no-untyped-call]
    columns = [atoms.arrays.pop(name) for name in HELD_COLUMNS if name in atoms.arrays]
    if len(columns) < len(HELD_COLUMNS):
        return
    held = np.stack(columns, axis=1) > 0.5
    for directions in np.unique(held[held.any(axis=1)], axis=0):
        same = np.flatnonzero((held == directions).all(axis=1))
        constraint: FixConstraint = FixCartesian(same, directions)  # type: ignore[no-untyped-call]
        if directions.all():
            constraint = FixAtoms(same)  # type: ignore[no-untyped-call]
        atoms.set_constraint([*atoms.constraints, constraint])  # type: ignore[no-untyped-call]
