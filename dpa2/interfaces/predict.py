"""Evaluate structure files and write what the model says as extended XYZ."""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from dpa2.ase import Parameters, box_of, parameters_of, stress
from dpa2.data.frames import FrameError
from dpa2.data.structures.reader import readable
from dpa2.data.structures.structure import Reading, RefusedFile, Structure, known_to_ase
from dpa2.evaluate.potential import Potential, check_finite
from dpa2.formats.structures import Evaluation, nothing
from schemas.base.errors import DataError
from schemas.base.writing import atomic_write


def reading_for(
    file: str,
    type_map: Sequence[str],
    format_name: str | None = None,
    type_names: Sequence[str] | None = None,
) -> Reading:
    """Return the reading of a file of structures, without labels, for a model.

    Args:
        file: The file.
        type_map: The model's elements: its names are taken as they stand, and deepmd data that name
            no elements are numbered by it.
        format_name: Its format; None goes by name and content.
        type_names: Elements of the types 1, 2, ... of LAMMPS files that do not name them.
    """
    return Reading(file, format_name, type_names, type_map, deepmd_names=type_map, keys=None)


def to_atoms(structure: Structure) -> Atoms:
    """Return the structure as ASE has it, with all that ASE read of it and no calculator.

    `info["fparam"]` and `arrays["aparam"]` carry the parameters of deepmd data. Names that are no
    elements become X.
    """
    if structure.atoms is not None:
        atoms: Atoms = structure.atoms.copy()  # type: ignore[no-untyped-call]
        return atoms
    symbols = known_to_ase(structure.symbols)
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
    with atomic_write(Path(path)) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8")
        for atoms in structures:
            ase.io.write(text, atoms, format="extxyz")
        text.flush()
        text.detach()


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
        source: System and frame, where a folder or data base holds several systems.
    """

    file: str
    index: int
    formula: str
    num_atoms: int
    energy: float | None
    max_force: float | None
    problem: str | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """How messages call it."""
        return _name(self.file, self.index, self.source)

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class PredictedFiles:
    """What became of some files.

    Attributes:
        structures: One entry a structure, in the order of the files.
        files: What reading them left out.
        refused: Files that could not be read.
    """

    structures: list[Predicted]
    files: list[Reading]
    refused: list[RefusedFile]


def predict_files(
    potential: Potential,
    files: Sequence[str],
    output: str | os.PathLike[str],
    *,
    format_name: str | None = None,
    type_names: Sequence[str] | None = None,
    fparam: Sequence[float] | None = None,
    atomic: bool = False,
    strict: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> PredictedFiles:
    """Evaluate every structure of some files and write them, in order, to one extxyz file.

    One that cannot be evaluated is written with nan for its energy, forces and stress; frames and
    files that cannot be read are left out, and said.

    Args:
        potential: The model.
        files: Structure files, with `@INDEX` for some of their frames, or deepmd systems.
        output: The extxyz file; it appears when everything is evaluated.
        format_name: Format of the files; None goes by name and content.
        type_names: Elements of the types 1, 2, ... of LAMMPS files that do not name them.
        fparam: Frame parameters of all structures; systems may carry their own.
        atomic: Write energies of atoms too.
        strict: Let the first structure that cannot be evaluated end it all.
        progress: Called with 1 after each structure.

    Raises:
        DataError: If no file can be read, one does not fit the model, or one cannot be read or a
            structure not evaluated and `strict`; names file and structure.
    """
    for file in files:
        if Path(file).exists() and Path(output).exists() and Path(file).samefile(output):
            raise DataError(f"{output} is both input and output", hint="choose another output")
    summary: list[Predicted] = []
    reports: list[Reading] = []
    refused: list[RefusedFile] = []

    def evaluated() -> Iterator[Atoms]:
        foreign: DataError | None = None
        for file in files:
            report = reading_for(file, potential.type_map, format_name, type_names)
            reports.append(report)
            for structure in readable(report, refused):
                atoms, source = to_atoms(structure), _source(report, structure.source)
                problem: str | None = None
                try:
                    evaluation = _predict(potential, atoms, structure.symbols, fparam)
                except DataError as error:
                    where = _name(file, structure.frame, source)
                    told = DataError(f"{where}: {error.message}", hint=error.hint)
                    if isinstance(error, FrameError):
                        problem = error.faults[0].reason
                    elif set(structure.symbols) - set(potential.type_map):
                        problem = error.message
                        foreign = foreign or told
                    if strict or problem is None:
                        raise told from error
                    evaluation = nothing(1, len(atoms))
                summary.append(_summary(file, structure.frame, source, atoms, evaluation, problem))
                progress(1)
                yield with_results(atoms, evaluation, atomic=atomic)
            if strict and refused:
                raise DataError(refused[0].reason, hint=refused[0].hint)
            for item in report.dropped:
                source = _source(report, item.source)
                left_out = Predicted(file, item.frame, "", 0, None, None, item.reason, source)
                if strict:
                    raise DataError(f"{left_out.name}: {item.reason}")
                summary.append(left_out)
        if foreign is not None and all(item.energy is None for item in summary):
            raise foreign
        if refused and not any(report.num_frames for report in reports):
            raise DataError("; ".join(item.reason for item in refused), hint=refused[0].hint)

    write_extxyz(output, evaluated())
    order = {file: number for number, file in enumerate(files)}
    summary.sort(key=lambda item: (order[item.file], item.index))
    return PredictedFiles(summary, reports, refused)


def _predict(
    potential: Potential,
    atoms: Atoms,
    symbols: Sequence[str],
    fparam: Sequence[float] | None,
) -> Evaluation:
    parameters = parameters_of(atoms, potential, Parameters(fparam))
    found = potential.predict(
        atoms.positions,
        box_of(atoms, potential.rcut),
        list(symbols),
        fparam=parameters.fparam,
        aparam=parameters.aparam,
        atomic=False,
    )
    check_finite(found)
    return found


def _name(file: str, index: int, source: str) -> str:
    return f"{file}, structure {index} (counted from 0)" + (f": {source}" if source else "")


def _source(report: Reading, source: str) -> str:
    """Return the system and frame of a structure, where its number in the file is another one."""
    is_told = report.format_name == "deepmd" and not source.startswith(f"{report.file} frame")
    return source if is_told else ""


def _summary(
    file: str, index: int, source: str, atoms: Atoms, evaluation: Evaluation, problem: str | None
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
        source=source,
    )
