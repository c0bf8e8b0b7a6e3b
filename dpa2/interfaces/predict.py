"""Evaluate structure files and write what the model says as extended XYZ."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from dpa2.data.bad_frames import FrameError
from dpa2.evaluate.evaluation import Evaluation, nothing
from dpa2.evaluate.potential import Potential, check_finite
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
        energy: eV; None where it could not be evaluated.
        max_force: Length of the largest force, eV/Å; None likewise.
        problem: Why it could not be evaluated, or None.
    """

    file: str
    index: int
    formula: str
    num_atoms: int
    energy: float | None
    max_force: float | None
    problem: str | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.file}, structure {self.index} (counted from 0)"

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
    strict: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Predicted]:
    """Evaluate every structure of some files and write them, in order, to one extxyz file.

    One that cannot be evaluated is written with nan for its energy, forces and stress.

    Args:
        potential: The model.
        files: Structure files or deepmd systems.
        output: The extxyz file; it appears when everything is evaluated.
        fparam: Frame parameters of all structures; systems may carry their own.
        atomic: Write energies of atoms too.
        strict: Let the first structure that cannot be evaluated end it all.
        progress: Called with 1 after each structure.

    Raises:
        DataError: If a file cannot be read or does not fit the model, or a structure cannot be
            evaluated and `strict`; names file and structure.
    """
    for file in files:
        if Path(file).exists() and Path(output).exists() and Path(file).samefile(output):
            raise DataError(f"{output} is both input and output", hint="choose another output")
    summary: list[Predicted] = []

    def evaluated() -> Iterator[Atoms]:
        for file in files:
            for index, atoms in enumerate(read_structures(file, potential.type_map)):
                problem: str | None = None
                try:
                    evaluation = _predict(potential, atoms, fparam)
                except DataError as error:
                    if strict or not isinstance(error, FrameError):
                        where = f"{file}, structure {index} (counted from 0)"
                        raise DataError(f"{where}: {error.message}", hint=error.hint) from error
                    evaluation = nothing(1, len(atoms))
                    problem = error.faults[0].reason
                summary.append(_summary(file, index, atoms, evaluation, problem))
                if progress is not None:
                    progress(1)
                yield with_results(atoms, evaluation, atomic=atomic)

    write_extxyz(output, evaluated())
    return summary


def _predict(potential: Potential, atoms: Atoms, fparam: Sequence[float] | None) -> Evaluation:
    parameters = parameters_of(atoms, potential, Parameters(fparam))
    found = potential.predict(
        atoms.positions,
        box_of(atoms, potential.rcut),
        atoms.arrays["type"] if "type" in atoms.arrays else list(atoms.symbols),
        fparam=parameters.fparam,
        aparam=parameters.aparam,
        atomic=False,
    )
    check_finite(found)
    return found


def _summary(
    file: str, index: int, atoms: Atoms, evaluation: Evaluation, problem: str | None
) -> Predicted:
    lengths = np.linalg.norm(evaluation.force[0], axis=-1)
    return Predicted(
        file=file,
        index=index,
        formula=str(atoms.symbols),
        num_atoms=len(atoms),
        energy=float(evaluation.energy[0]) if problem is None else None,
        max_force=float(lengths.max()) if problem is None else None,
        problem=problem,
    )
