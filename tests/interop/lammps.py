"""LAMMPS with deepmd-kit's plugin: run a box of water, read what it says, compare with ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import bar

import dpa2
from dpa2.interfaces.lammps import lammps_data, lammps_structure

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("lammps.in")
PER_ATOM = "compute         per_atom all pe/atom\n"
ENERGY = 1e-10  # eV/atom
FORCE = 1e-9  # eV/Å


@dataclass
class Frame:
    """What LAMMPS says about a configuration: eV, Å, bar (xx, yy, zz, xy, xz, yz)."""

    coord: np.ndarray
    cell: np.ndarray
    atom_types: np.ndarray
    energy: float
    atom_energy: np.ndarray | None
    force: np.ndarray
    pressure: np.ndarray


def water_box(repeats: tuple[int, int, int]) -> Atoms:
    """Return bundled water, 96 atoms repeated, no two of them alike."""
    folder = ROOT / "examples" / "water" / "gfn2" / "test"
    symbols = np.array(["O", "H"])[np.loadtxt(folder / "type.raw", dtype=int)]
    coord = np.load(folder / "set.000" / "coord.npy")[0].reshape(-1, 3)
    box = np.load(folder / "set.000" / "box.npy")[0].reshape(3, 3)
    atoms = Atoms(symbols, coord, cell=box, pbc=True).repeat(repeats)
    atoms.rattle(0.05, seed=3)
    return atoms


def run_lammps(
    deepmd: Any,
    atoms: Atoms,
    model: Path,
    folder: Path,
    *,
    processes: int = 1,
    steps: int = 0,
    parameters: str = "",
    per_atom: bool = True,
) -> list[Frame]:
    """Run a few steps with a frozen model; returns the frames.

    Args:
        deepmd: The fixture of that name.
        atoms: Start.
        model: The frozen model.
        folder: Where LAMMPS writes.
        processes: MPI ranks.
        steps: Of 0.5 fs.
        parameters: What `pair_style` is told beside the model.
        per_atom: Ask for energies of atoms, for which LAMMPS's plugin asks for their virials too.
    """
    (folder / "data").write_text(lammps_data(lammps_structure(atoms, ("O", "H"))))
    script = SCRIPT.read_text().replace("${model}", f"{model} {parameters}".strip())
    if not per_atom:
        script = script.replace(PER_ATOM, "").replace(" c_per_atom", "")
    (folder / "in.lammps").write_text(script)
    command = ["lmp", "-in", folder / "in.lammps", "-log", folder / "log"]
    for name, value in {"data": folder / "data", "out": folder / "dump", "steps": steps}.items():
        command += ["-var", name, value]
    if processes > 1:
        lammps, *rest = command
        program = deepmd.python.with_name(lammps)
        command = ["mpiexec", "-n", processes, deepmd.python, program, *rest]
    deepmd.call(*command, cwd=folder)
    return [
        Frame(coord, cell, types, energy, atom_energy, force, pressure)
        for (coord, cell, types, force, atom_energy), (energy, pressure) in zip(
            read_dump(folder / "dump"), read_log(folder / "log"), strict=True
        )
    ]


def read_dump(path):
    """Yield (coord, cell, types, force, atom_energy) of every frame."""
    lines = path.read_text().splitlines()
    starts = [k for k, line in enumerate(lines) if line == "ITEM: TIMESTEP"]
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        bounds = np.array([line.split() for line in lines[start + 5 : start + 8]], dtype=float)
        low, high = bounds[:, 0], bounds[:, 1]
        tilt = bounds[:, 2] if bounds.shape[1] == 3 else np.zeros(3)
        xy, xz, yz = tilt
        low = low - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
        high = high - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
        length = high - low
        cell = np.array([[length[0], 0, 0], [xy, length[1], 0], [xz, yz, length[2]]])
        rows = np.array([line.split() for line in lines[start + 9 : stop]], dtype=float)
        atom_energy = rows[:, 8] if rows.shape[1] > 8 else None
        yield rows[:, 2:5], cell, rows[:, 1].astype(int) - 1, rows[:, 5:8], atom_energy


def read_log(path):
    """Yield (energy, pressure (6,)) of every frame."""
    rows = [line.split() for line in path.read_text().splitlines()]
    start = next(k for k, row in enumerate(rows) if row[:2] == ["Step", "PotEng"])
    stop = next(k for k, row in enumerate(rows) if row[:2] == ["Loop", "time"])
    for row in rows[start + 1 : stop]:
        values = [float(word) for word in row]
        yield values[1], np.array(values[2:8])


def assert_ours(frame: Frame, checkpoint: Path, **parameters: Any) -> None:
    """LAMMPS's numbers are those of our own evaluation of the checkpoint at its positions."""
    ours = dpa2.load(checkpoint)
    found = ours.predict(frame.coord, frame.cell, frame.atom_types, atomic=False, **parameters)
    num_atoms = len(frame.coord)
    assert np.abs(frame.force).max() > 0.1
    assert abs(frame.energy - found.energy[0]) / num_atoms <= ENERGY
    assert np.abs(frame.force - found.force[0]).max() <= FORCE
    if frame.atom_energy is not None:
        assert np.abs(frame.atom_energy - found.atom_energy[0]).max() <= FORCE
    virial = 0.5 * (found.virial[0] + found.virial[0].T)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    pressure = virial / abs(np.linalg.det(frame.cell)) / bar
    assert np.abs(pressure).max() > 100.0
    # LAMMPS's constant of pressure (nktv2p) has seven digits.
    np.testing.assert_allclose(frame.pressure, pressure, rtol=3e-7, atol=1e-3)
