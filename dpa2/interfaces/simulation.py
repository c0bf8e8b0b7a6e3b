"""A molecular dynamics run, ready to start: what `zoo md` writes for LAMMPS or ASE."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixConstraint
from ase.data import atomic_numbers

from dpa2.ase import Parameters, box_of, checked_parameters, parameters_of
from dpa2.data.structures.reader import read_structures
from dpa2.data.structures.structure import Structure
from dpa2.evaluate.potential import Potential, load
from dpa2.formats.table import format_of
from dpa2.interfaces.lammps import (
    HELD_COLUMNS,
    MASS_COLUMN,
    LammpsStructure,
    lammps_data,
    lammps_script,
    lammps_structure,
)
from dpa2.interfaces.md import MdSettings, ase_files, check_settings
from dpa2.interfaces.predict import reading_for, to_atoms
from dpa2.model.neighbors import pairs_within
from schemas.base.errors import CheckpointError, DataError, TrainingError
from schemas.base.foreign_files import refuse_special
from schemas.base.writing import atomic_write, write_text

Engine = Literal["lammps", "ase"]

# Formats that deepmd-kit's plugin takes as they are.
_RUN_BY_LAMMPS = frozenset({".pth", ".pt2", ".savedmodel"})

# How near atoms are searched that are at the same place, Å.
_TOUCHING = 0.5

_NOT_GIVEN = Parameters()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What was written.

    Attributes:
        engine: Which program runs it.
        folder: Where it is.
        files: Names of the files there: the input first, the model last.
        elements: Elements of the structure, in the order of LAMMPS's atom types.
        num_atoms: Atoms of the structure.
        notes: What a reader of the files should know, one sentence each.
    """

    engine: Engine
    folder: Path
    files: tuple[str, ...]
    elements: tuple[str, ...]
    num_atoms: int
    notes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What a person types in the folder to start it."""
        program = "lmp -in" if self.engine == "lammps" else "python"
        return f"{program} {self.files[0]}"


def write_simulation(
    atoms: Atoms,
    model: Path,
    folder: Path,
    engine: Engine,
    settings: MdSettings,
    *,
    branch: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    force: bool = False,
    parameters: Parameters = _NOT_GIVEN,
) -> Simulation:
    """Write the input, the structure and the model of a run into a folder.

    Args:
        atoms: Where it starts; its velocities are used where it has any, its constraints are kept.
        model: Any model that `dpa2.load` opens; LAMMPS gets it frozen.
        folder: Made if need be.
        engine: Which program is to run it.
        settings: What to simulate.
        branch: Branch of a multi-task checkpoint.
        device: Where ASE computes; LAMMPS takes a GPU where there is one.
        dtype: Compute in `float32` or `float64`; None: in the model's own precision.
        force: Replace files that are there.
        parameters: What the model is told where the structure does not say; aparam also those of
            one atom, for all.

    Raises:
        DataError: If the structure does not fit the model, the program cannot do what structure and
            settings ask for, or files are there already.
        CheckpointError: If the model cannot be used.
    """
    _check_structure(atoms)
    check_settings(atoms, settings)
    potential = load(model, branch, dtype=dtype)
    elements = _elements(atoms, potential.type_map)
    given = parameters_of(atoms, potential, parameters)
    given = checked_parameters(given, potential, len(atoms))
    notes = _notes(atoms, given, potential, settings)
    kind = format_of(model).name  # the file's own name may be anything, and goes into scripts
    freeze_it = engine == "lammps" and kind not in _RUN_BY_LAMMPS
    placed = "model.pth" if freeze_it else f"model{kind}"
    texts: dict[str, str]
    if engine == "lammps":
        _check_lammps_parameters(given)
        structure = lammps_structure(atoms, elements)
        elements = structure.elements
        notes += _lammps_notes(structure)
        files: tuple[str, ...] = ("in.lammps", "structure.data", placed)
        texts = {
            files[1]: lammps_data(structure, tilted=settings.couple == "tri"),
            files[0]: lammps_script(structure, settings, files, given),
        }
    else:
        on_device = None if device == "cpu" else device
        opening = {"branch": branch, "device": on_device, "dtype": dtype}
        texts = ase_files(atoms, settings, placed, given, opening)
        files = (*texts, placed)
    _refuse_overwriting(folder, files, model, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    _place_model(model, folder / placed, branch, dtype, freeze_it=freeze_it)
    for name, text in texts.items():
        write_text(folder / name, text)
    return Simulation(engine, folder, files, elements, len(atoms), tuple(notes))


def run_simulation(simulation: Simulation, lammps: str | None = None) -> None:
    """Run what was written, in its folder; what the program prints goes to stderr.

    Args:
        simulation: From `write_simulation`.
        lammps: The program; None: `lmp` of the PATH.

    Raises:
        TrainingError: If the program is not there, or fails.
    """
    command = [sys.executable, simulation.files[0]]
    if simulation.engine == "lammps":
        program = shutil.which(lammps or "lmp")
        if program is None:
            raise TrainingError(
                f"there is no program {lammps or 'lmp'} here",
                hint="install LAMMPS with deepmd-kit's plugin (pip install 'deepmd-kit[torch,lmp]' "
                f"in an environment of its own), then in {simulation.folder}: {simulation.command}",
            )
        command = [program, "-in", simulation.files[0]]
    done = subprocess.run(command, cwd=simulation.folder, stdout=sys.stderr, check=False)  # noqa: S603
    if done.returncode:
        raise TrainingError(
            f"{simulation.command} ended with exit code {done.returncode}",
            hint=f"its last lines above say why; the files in {simulation.folder} are kept",
        )


def _check_structure(atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise DataError("the structure has no atoms")
    if not np.isfinite(atoms.arrays.get("momenta", np.zeros(0))).all():
        raise DataError("the velocities of the structure hold a number that is not finite")
    pairs_within(atoms.positions, box_of(atoms, _TOUCHING), _TOUCHING)


def _check_lammps_parameters(parameters: Parameters) -> None:
    aparam = parameters.aparam
    if aparam is not None and np.ptp(np.asarray(aparam), axis=0).any():
        raise DataError(
            "the atoms of the structure have different aparam, and deepmd-kit's plugin for LAMMPS "
            "tells the model the same of every atom",
            hint="use --engine ase, or --aparam with the numbers of all atoms on a structure "
            "without its own",
        )


def _notes(
    atoms: Atoms, parameters: Parameters, potential: Potential, settings: MdSettings
) -> list[str]:
    """Return where velocities come from, what the model does not see, what defaults stand for."""
    notes = [_of_velocities(atoms, settings)]
    for array, name in (
        ("initial_charges", "charges"),
        ("initial_magmoms", "magnetic moments"),
    ):
        if array in atoms.arrays and atoms.arrays[array].any():
            notes.append(f"{name} of the structure are no input of the model")
    if potential.dim_fparam and parameters.fparam is None:
        notes.append("fparam is the model's default")
    return notes


def _of_velocities(atoms: Atoms, settings: MdSettings) -> str:
    momenta = atoms.arrays.get("momenta")
    if momenta is not None and momenta.any():
        kelvin = atoms.get_temperature()  # type: ignore[no-untyped-call]
        return f"velocities are those of the structure ({kelvin:.0f} K)"
    drawn = f"velocities are drawn at {settings.temperature:g} K"
    column = next((name for name in atoms.arrays if name.lower().startswith("vel")), None)
    if column is not None:
        return f"{drawn}: the unit of the structure's column {column} is not known, momenta are"
    return drawn


def _lammps_notes(structure: LammpsStructure) -> list[str]:
    notes = []
    if structure.is_turned:
        notes.append("LAMMPS turns the cell, and with it positions, velocities and forces")
    if structure.held.any():
        notes.append(
            "final.data does not tell what is held: go on from trajectory.lammpstrj@-1, which does"
        )
    return notes


def _elements(atoms: Atoms, type_map: Sequence[str]) -> tuple[str, ...]:
    present = set(atoms.get_chemical_symbols())  # type: ignore[no-untyped-call]
    unknown = sorted(present - set(type_map))
    if unknown:
        raise DataError(
            f"the model does not know {', '.join(unknown)}; it knows {' '.join(type_map[:20])}"
            + (" ..." if len(type_map) > 20 else "")
        )
    nameless = sorted(element for element in present if not atomic_numbers.get(element))
    if nameless:
        raise DataError(f"{', '.join(nameless)} is no element: its mass is not known")
    return tuple(element for element in type_map if element in present)


def _refuse_overwriting(folder: Path, files: Sequence[str], model: Path, *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file", hint="name a folder with --output")
    there = [name for name in files if (folder / name).exists()]
    if any((folder / name).samefile(model) for name in there):
        raise DataError(f"{model} would be replaced by itself", hint="name another folder")
    if there and not force:
        raise DataError(
            f"{folder} already has {', '.join(there)}",
            hint="name another folder with --output, or add --force to replace them",
        )


def _place_model(
    model: Path, target: Path, branch: str | None, dtype: str | None, *, freeze_it: bool
) -> None:
    """Freeze or copy the model, so that the folder can be taken elsewhere as it is."""
    if freeze_it:
        from dpa2.formats.conversion import freeze

        freeze(model, target, branch, dtype=dtype)
        return
    if model.is_dir():
        from dpa2.formats.savedmodel import replaced_folder

        for item in model.rglob("*"):
            refuse_special(item, CheckpointError)
        with replaced_folder(target) as fresh:
            shutil.copytree(model, fresh)
        return
    try:
        with model.open("rb") as source, atomic_write(target) as stream:
            shutil.copyfileobj(source, stream)
    except OSError as error:
        raise CheckpointError(f"{model} cannot be read: {error.strerror}") from error


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
    reading = reading_for(reference, type_map, format_name, type_names)
    for structure in read_structures(reading):
        _refuse_other_names(structure)
        atoms = to_atoms(structure)
        atoms.arrays.pop("type", None)
        _take_columns(atoms)
        return atoms, reading.sentences()
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
