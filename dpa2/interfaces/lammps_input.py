"""LAMMPS's input script and data file for a structure and a model."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ase.io
import numpy as np
from ase import Atoms

from dpa2.interfaces.periodicity import PeriodicBox

if TYPE_CHECKING:
    from dpa2.interfaces.simulation import MdSettings

SKIN = 1.0
"""Margin of LAMMPS's neighbour list, Å; its default of 2 Å makes lists half as long again."""

# The one format whose messages between atoms cross from process to process.
_SEVERAL_PROCESSES = ".pth"

# Damping times of thermostat and barostat, in steps.
_THERMOSTAT = 100
_BAROSTAT = 1000
# Room around what is not periodic, Å; the box shrinks onto the atoms when the run starts.
_ROOM = 10.0


def lammps_data(atoms: Atoms, elements: Sequence[str]) -> str:
    """Return the data file: atom types in the order of `elements`, masses, all digits.

    Cells other than lower triangular are turned with their atoms, as LAMMPS needs them.
    """
    placed = _in_a_box(atoms)
    stream = io.StringIO()
    ase.io.write(
        stream,
        placed,
        format="lammps-data",
        specorder=list(elements),
        masses=True,
        velocities=_has_velocities(atoms),
        units="metal",
        atom_style="atomic",
    )
    return stream.getvalue()


def lammps_script(
    atoms: Atoms, elements: Sequence[str], settings: "MdSettings", files: Sequence[str]
) -> str:
    """Return the input script.

    Args:
        atoms: The structure.
        elements: In the order of the atom types.
        settings: What to simulate.
        files: Names of script, data file and model.
    """
    _, data, model = files
    picoseconds = settings.timestep / 1000.0
    boundary = " ".join("p" if periodic else "s" for periodic in atoms.pbc)
    lines = [
        f"# {atoms.symbols} with {model}; start with: lmp -in {files[0]}",
        f"# needs deepmd-kit's plugin; {_processes(files)}",
        "units           metal            # Å, eV, ps, K, bar",
        "atom_style      atomic",
        "atom_modify     map yes          # models pass messages between atoms and their images",
        "newton          on",
        f"boundary        {boundary}",
        f"read_data       {data}",
        "",
        f"pair_style      deepmd {model}",
        f"pair_coeff      * * {' '.join(elements)}",
        f"neighbor        {SKIN} bin",
        "neigh_modify    every 1 delay 0 check yes",
        "",
        f"timestep        {picoseconds:.10g}",
        *_velocities(atoms, settings),
        f"fix             move all {_integrator(settings, picoseconds)}",
        "",
        f"thermo          {settings.dump_every}",
        "thermo_style    custom step time temp pe ke etotal press vol",
        "thermo_modify   format float %.15g",
        (
            f"dump            frames all custom {settings.dump_every} trajectory.lammpstrj "
            "id type element xu yu zu fx fy fz"
        ),
        f"dump_modify     frames sort id element {' '.join(elements)} format float %20.15g",
        "",
        f"run             {settings.steps}",
        "write_data      final.data",
    ]
    return "\n".join(lines) + "\n"


def _processes(files: Sequence[str]) -> str:
    script, _, model = files
    if model.endswith(_SEVERAL_PROCESSES):
        return f"several processes: mpirun -np 4 lmp -in {script}"
    return f"one process: only {_SEVERAL_PROCESSES} models run on several"


def _integrator(settings: "MdSettings", picoseconds: float) -> str:
    heat = f"temp {settings.temperature} {settings.temperature} {_THERMOSTAT * picoseconds:.10g}"
    if settings.ensemble == "nve":
        return "nve"
    if settings.ensemble == "nvt":
        return f"nvt {heat}"
    press = f"{settings.pressure} {settings.pressure} {_BAROSTAT * picoseconds:.10g}"
    return f"npt {heat} iso {press}"


def _velocities(atoms: Atoms, settings: "MdSettings") -> list[str]:
    if _has_velocities(atoms):
        return ["# velocities are those of the structure"]
    rotation = "no" if atoms.pbc.any() else "yes"
    return [
        (
            f"velocity        all create {settings.temperature} {settings.seed} "
            f"mom yes rot {rotation} dist gaussian"
        )
    ]


def _has_velocities(atoms: Atoms) -> bool:
    return bool(atoms.has("momenta") and atoms.get_momenta().any())  # type: ignore[no-untyped-call]


def _in_a_box(atoms: Atoms) -> Atoms:
    """Return the structure with a cell vector in every direction and all atoms inside."""
    placed: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    free = ~atoms.pbc
    if free.any():
        box = PeriodicBox(2.0 * _ROOM)(atoms.positions, atoms.cell.array, atoms.pbc)
        if box is None:
            box = np.diag(np.ptp(atoms.positions, axis=0) + 2.0 * _ROOM)
        normals = box[free] / np.linalg.norm(box[free], axis=1, keepdims=True)
        lowest = (atoms.positions @ normals.T).min(axis=0)
        placed.positions += (_ROOM - lowest) @ normals
        placed.set_cell(box)  # type: ignore[no-untyped-call]
    placed.wrap(pbc=atoms.pbc)  # type: ignore[no-untyped-call]
    return placed
