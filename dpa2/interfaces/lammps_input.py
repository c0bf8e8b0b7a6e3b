"""LAMMPS's input script for a structure and a model."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpa2.interfaces.ase import Parameters
from dpa2.interfaces.lammps_data import LammpsStructure, boundary
from dpa2.interfaces.md_settings import MdSettings

SKIN = 1.0
"""Margin of LAMMPS's neighbour list, Å; its default of 2 Å makes lists half as long again."""

MASS_COLUMN = "v_mass"
HELD_COLUMNS = ("v_held_x", "v_held_y", "v_held_z")
"""Columns of our trajectories that tell what elements do not: isotopes, and what is held."""

# The one format whose messages between atoms cross from process to process.
_SEVERAL_PROCESSES = ".pth"

# Damping times of thermostat and barostat, in steps.
_THERMOSTAT = 100
_BAROSTAT = 1000
# Groups of the atoms that cannot move at all, and of the others.
_FIXED, _MOBILE = "fixed", "mobile"


def lammps_script(
    structure: LammpsStructure,
    settings: MdSettings,
    files: Sequence[str],
    parameters: Parameters,
) -> str:
    """Return the input script.

    Args:
        structure: What the data file holds.
        settings: What to simulate.
        files: Names of script, data file and model.
        parameters: What the model is told; those of atoms are the same for each.
    """
    _, data, model = files
    elements = " ".join(structure.elements)
    picoseconds = settings.timestep / 1000.0
    groups = _Groups(structure)
    lines = [
        f"# {structure.formula} with {model}; start with: lmp -in {files[0]}",
        f"# needs deepmd-kit's plugin; {_processes(files)}",
        "units           metal            # Å, eV, ps, K, bar",
        "atom_style      atomic",
        "atom_modify     map yes          # models pass messages between atoms and their images",
        "newton          on",
        f"boundary        {boundary(structure.pbc)}",
        *_tilt(structure.cell),
        f"read_data       {data}",
        "",
        f"pair_style      deepmd {model}{_given(parameters)}",
        f"pair_coeff      * * {elements}",
        f"neighbor        {SKIN} bin",
        "neigh_modify    every 1 delay 0 check yes",
        "",
        f"timestep        {picoseconds:.10g}",
        *groups.definitions(),
        *groups.velocities(settings),
        *groups.forces(),
        f"fix             move {groups.moving} {_integrator(settings, picoseconds)}",
        *groups.thermostat(settings),
        "",
        f"thermo          {settings.dump_every}",
        "thermo_style    custom step time temp pe ke etotal press vol",
        "thermo_modify   format float %.15g",
        *groups.thermometer(),
        *groups.columns(settings, elements),
        "",
        f"run             {settings.steps}",
        "write_data      final.data",
    ]
    return "\n".join(lines) + "\n"


class _Groups:
    """The lines that depend on which atoms move, and in which directions."""

    def __init__(self, structure: LammpsStructure) -> None:
        self._structure = structure
        held = structure.held
        self._fixed = held.all(axis=1)
        self._partly = held.any(axis=1) & ~self._fixed
        # A lone atom has no centre of mass to keep beside itself.
        self._keeps_momentum = not held.any() and len(held) > 1
        self.moving = _MOBILE if self._fixed.any() else "all"

    def _partial(self) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.intp]]]:
        """Yield the group, the directions and the atoms of each way to be held partly."""
        held = self._structure.held
        for directions in np.unique(held[self._partly], axis=0):
            name = "held_" + "".join(np.array(list("xyz"))[directions])
            yield name, directions, np.flatnonzero((held == directions).all(axis=1))

    def definitions(self) -> Iterator[str]:
        if self._fixed.any():
            yield f"group           {_FIXED} id {_ids(np.flatnonzero(self._fixed))}"
            yield f"group           {_MOBILE} subtract all {_FIXED}"
        for name, _, atoms in self._partial():
            yield f"group           {name} id {_ids(atoms)}"
        if not self._keeps_momentum:
            lost = int(self._structure.held[self._partly].sum())
            yield f"compute         heat {self.moving} temp"
            yield f"compute_modify  heat extra/dof {lost}    # directions in which nothing moves"

    def velocities(self, settings: MdSettings) -> Iterator[str]:
        if self._structure.velocities is not None:
            yield "# velocities are those of the structure"
            return
        create = f"velocity        {self.moving} create {settings.temperature} {settings.seed}"
        if self._keeps_momentum:
            rotation = "no" if self._structure.pbc.any() else "yes"
            yield f"{create} mom yes rot {rotation} dist gaussian"
            return
        yield f"{create} mom no rot no dist gaussian temp heat"
        for name, directions, _ in self._partial():
            yield f"velocity        {name} set {_zeros(directions)}"
        if self._partly.any():
            yield f"velocity        {self.moving} scale {settings.temperature} temp heat"

    def forces(self) -> Iterator[str]:
        """Yield what holds atoms partly; the model's forces are kept for the trajectory."""
        if self._partly.any():
            yield "fix             model all store/force"
        for name, directions, _ in self._partial():
            yield f"fix             {name} {name} setforce {_zeros(directions)}"

    def thermostat(self, settings: MdSettings) -> Iterator[str]:
        if not self._keeps_momentum and settings.ensemble != "nve":
            yield "fix_modify      move temp heat"

    def thermometer(self) -> Iterator[str]:
        if not self._keeps_momentum:
            yield "thermo_modify   temp heat"

    def columns(self, settings: MdSettings, elements: str) -> Iterator[str]:
        """Yield the dump: the model's forces, and what it takes to go on from a frame."""
        forces = {f"f_model[{k}]": f"f{a}" for k, a in enumerate("xyz", 1) if self._partly.any()}
        more = []
        if self._structure.has_isotopes:
            yield "variable        mass atom mass"
            more.append(MASS_COLUMN)
        if self._structure.held.any():
            for axis, column in enumerate(HELD_COLUMNS):
                name = column.removeprefix("v_")
                yield f'variable        {name} atom "{self._is_held(axis)}"'
                more.append(column)
        columns = ["id type element xu yu zu", *(forces or ["fx fy fz"]), "vx vy vz", *more]
        yield (
            f"dump            frames all custom {settings.dump_every} trajectory.lammpstrj "
            + " ".join(columns)
        )
        yield f"dump_modify     frames sort id element {elements} format float %20.15g"
        for column, name in forces.items():
            yield f"dump_modify     frames colname {column} {name}"

    def _is_held(self, axis: int) -> str:
        names = [name for name, directions, _ in self._partial() if directions[axis]]
        names += [_FIXED] if self._fixed.any() else []
        return " || ".join(f"gmask({name})" for name in names) or "0"


def _ids(atoms: NDArray[np.intp]) -> str:
    """Return the numbers of atoms, from 1, runs of them as first:last."""
    runs = np.split(atoms + 1, np.flatnonzero(np.diff(atoms) > 1) + 1)
    return " ".join(f"{run[0]}:{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _zeros(directions: NDArray[np.bool_]) -> str:
    return " ".join("0.0" if held else "NULL" for held in directions)


def _processes(files: Sequence[str]) -> str:
    script, _, model = files
    if model.endswith(_SEVERAL_PROCESSES):
        return f"several processes: mpirun -np 4 lmp -in {script}"
    return f"one process: only {_SEVERAL_PROCESSES} models run on several"


def _tilt(cell: NDArray[np.float64]) -> list[str]:
    (xx, _, _), (xy, yy, _), (xz, yz, _) = np.abs(cell).tolist()
    if 2 * max(xy, xz) > xx or 2 * yz > yy:
        return ["box             tilt large"]
    return []


def _given(parameters: Parameters) -> str:
    words = ""
    for name, values in zip(Parameters._fields, parameters, strict=True):
        if values is not None:
            words += f" {name} " + " ".join(f"{value:.17g}" for value in _of_one(name, values))
    return words


def _of_one(name: str, values: ArrayLike) -> list[float]:
    """Return frame parameters, or those of one atom, of which all have the same."""
    array = np.asarray(values, dtype=np.float64)
    numbers: list[float] = (array[0] if name == "aparam" else array).reshape(-1).tolist()
    return numbers


def _integrator(settings: MdSettings, picoseconds: float) -> str:
    heat = f"temp {settings.temperature} {settings.temperature} {_THERMOSTAT * picoseconds:.10g}"
    if settings.ensemble == "nve":
        return "nve"
    if settings.ensemble == "nvt":
        return f"nvt {heat}"
    press = f"{settings.pressure} {settings.pressure} {_BAROSTAT * picoseconds:.10g}"
    return f"npt {heat} {settings.couple} {press}"
