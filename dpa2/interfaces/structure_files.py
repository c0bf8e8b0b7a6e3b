"""Structures as ASE's, read for a model, and written with what it says."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers

from dpa2.data.structures.structure import ReadOptions, Structure
from dpa2.evaluate.evaluation import Evaluation
from dpa2.interfaces.ase import stress
from schemas.atomic import atomic_write


def options_for(
    type_map: Sequence[str],
    format_name: str | None = None,
    type_names: Sequence[str] | None = None,
) -> ReadOptions:
    """Return how to read structures, without labels, for a model.

    Args:
        type_map: The model's elements: its names are taken as they stand, and deepmd data that name
            no elements are numbered by it.
        format_name: Format of the files; None goes by name and content.
        type_names: Elements of the types 1, 2, ... of LAMMPS files that do not name them.
    """
    return ReadOptions(format_name, type_names, type_map, deepmd_names=type_map, keys=None)


def to_atoms(structure: Structure) -> Atoms:
    """Return the structure as ASE has it, with all that ASE read of it and no calculator.

    `info["fparam"]` and `arrays["aparam"]` carry the parameters of deepmd data. Names that are no
    elements become X.
    """
    if structure.atoms is not None:
        atoms: Atoms = structure.atoms.copy()  # type: ignore[no-untyped-call]
        return atoms
    symbols = [name if name in atomic_numbers else "X" for name in structure.symbols]
    atoms = Atoms(symbols, structure.coord, cell=structure.box, pbc=structure.pbc)
    if structure.box is None:
        atoms.pbc = False
    if "fparam" in structure.labels:
        atoms.info["fparam"] = structure.labels["fparam"]
    if "aparam" in structure.labels:
        atoms.arrays["aparam"] = structure.labels["aparam"]
    return atoms


def with_results(atoms: Atoms, evaluation: Evaluation, *, atomic: bool) -> Atoms:
    """Return a copy that carries a prediction: energy, forces, stress, virial, energies of atoms.

    Stress is ASE's: -virial / volume, in eV/Å³.
    """
    labelled: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    results = {"energy": float(evaluation.energy[0]), "forces": evaluation.force[0]}
    if atoms.pbc.all():
        virial = evaluation.virial[0]
        results["stress"] = stress(virial, atoms.cell.volume)
        labelled.info["virial"] = virial
    if atomic and evaluation.atom_energy is not None:
        results["energies"] = evaluation.atom_energy[0]
    labelled.calc = SinglePointCalculator(labelled, **results)  # type: ignore[no-untyped-call]
    return labelled


def write_extxyz(path: str | os.PathLike[str], structures: Iterable[Atoms]) -> None:
    """Write structures as extended XYZ, one at a time; the file appears when all are written."""
    import io

    with atomic_write(Path(path)) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8")
        for atoms in structures:
            ase.io.write(text, atoms, format="extxyz")
        text.flush()
        text.detach()
