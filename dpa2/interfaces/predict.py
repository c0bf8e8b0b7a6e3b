"""Evaluate structure files and write what the model says as extended XYZ."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from dpa2.evaluate.evaluation import Evaluation
from dpa2.evaluate.potential import Potential
from dpa2.interfaces.ase import box_of
from dpa2.interfaces.parameters import Parameters, parameters_of
from dpa2.interfaces.structure_files import read_structures, with_results, write_extxyz
from schemas.errors import DataError


@dataclass(frozen=True, slots=True)
class Predicted:
    """One structure in short.

    Attributes:
        file: Where it was read.
        index: Its number in that file, from 0.
        formula: Chemical formula.
        num_atoms: Number of atoms.
        energy: eV.
        max_force: Length of the largest force, eV/Å.
    """

    file: str
    index: int
    formula: str
    num_atoms: int
    energy: float
    max_force: float

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {name: getattr(self, name) for name in self.__slots__}


def predict_files(
    potential: Potential,
    files: Sequence[str],
    output: str | os.PathLike[str],
    *,
    fparam: Sequence[float] | None = None,
    atomic: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Predicted]:
    """Evaluate every structure of some files and write them, in order, to one extxyz file.

    Args:
        potential: The model.
        files: Structure files or deepmd systems.
        output: The extxyz file; it appears when everything is evaluated.
        fparam: Frame parameters of all structures; systems may carry their own.
        atomic: Write energies of atoms too.
        progress: Called with 1 after each structure.

    Raises:
        DataError: If a file cannot be read or does not fit the model; names file and structure.
    """
    for file in files:
        if Path(file).exists() and Path(output).exists() and Path(file).samefile(output):
            raise DataError(f"{output} is both input and output", hint="choose another output")
    summary: list[Predicted] = []

    def evaluated() -> Iterator[Atoms]:
        for file in files:
            for index, atoms in enumerate(read_structures(file, potential.type_map)):
                try:
                    evaluation = _predict(potential, atoms, fparam)
                except DataError as error:
                    where = f"{file}, structure {index} (counted from 0)"
                    raise DataError(f"{where}: {error.message}", hint=error.hint) from error
                summary.append(_summary(file, index, atoms, evaluation))
                if progress is not None:
                    progress(1)
                yield with_results(atoms, evaluation, atomic=atomic)

    write_extxyz(output, evaluated())
    return summary


def _predict(potential: Potential, atoms: Atoms, fparam: Sequence[float] | None) -> Evaluation:
    parameters = parameters_of(atoms, potential, Parameters(fparam))
    return potential.predict(
        atoms.positions,
        box_of(atoms, potential.rcut),
        atoms.arrays["type"] if "type" in atoms.arrays else list(atoms.symbols),
        fparam=parameters.fparam,
        aparam=parameters.aparam,
        atomic=False,
    )


def _summary(file: str, index: int, atoms: Atoms, evaluation: Evaluation) -> Predicted:
    lengths = np.linalg.norm(evaluation.force[0], axis=-1)
    return Predicted(
        file=file,
        index=index,
        formula=str(atoms.symbols),
        num_atoms=len(atoms),
        energy=float(evaluation.energy[0]),
        max_force=float(lengths.max()),
    )
