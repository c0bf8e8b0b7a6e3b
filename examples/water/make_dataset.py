# /// script
# requires-python = ">=3.11"
# dependencies = ["ase>=3.29", "tblite>=0.5", "numpy", "scipy", "rich"]
# ///
"""Make the data of this folder: 32 water molecules, labelled by GFN1-xTB and GFN2-xTB.

    python examples/water/make_dataset.py                # everything, about an hour on one core
    python examples/water/make_dataset.py --share 0/2    # half of it; run 1/2 beside it

Six thermodynamic states, four independent trajectories each. A trajectory starts from a box
equilibrated with a classical model, continues with GFN1-xTB, and its saved frames are labelled
again with GFN2-xTB. Every trajectory has its own seed and its own file under `build/`, so an
interrupted run continues where it stopped. Who finishes the last one writes the four systems.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevinbaoab import LangevinBAOAB
from flexible_water import FlexibleWater
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.spatial.transform import Rotation
from tblite.ase import TBLite

HERE = Path(__file__).resolve().parent
WORK = HERE / "build"
SEED = 20260
NUM_MOLECULES = 32
STATES = ((300, 0.997), (330, 0.997), (400, 0.997), (600, 0.997), (330, 1.10), (330, 0.90))
"""Temperature in K and density in g/cm^3; frame i of every written system has state i mod 6."""
FRAMES_PER_TRAJECTORY = (11, 11, 11, 7)
"""The last trajectory of each state is test data: its start and velocities are its own."""

# Configurations sampled at constant temperature do not depend on the masses, so hydrogens are
# made heavier at the expense of oxygens: the fastest vibration slows down and the time step can be
# twice the usual one.
MASSES = {"O": 10.0, "H": 4.0}  # g/mol
TIMESTEP = 2.0  # fs
CLASSICAL_STEPS = 4000
DISCARDED_STEPS = 20
STRIDE = 8

LEVELS = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}
LABELS = ("energy", "force", "virial")
Frames = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Trajectory:
    """One of the independent runs: replica `replica` of state `state`."""

    state: int
    replica: int

    @property
    def path(self) -> Path:
        """The file that holds the finished frames."""
        return WORK / f"state{self.state}-replica{self.replica}.npz"

    @property
    def num_frames(self) -> int:
        """How many frames this trajectory saves."""
        return FRAMES_PER_TRAJECTORY[self.replica]

    def run(self, progress: Progress) -> Frames:
        """Sample and label; return `coord`, `box`, `gfn1_energy`..., frame as the first axis."""
        temperature, density = STATES[self.state]
        rng = np.random.default_rng([SEED, self.state, self.replica])
        name = f"{temperature} K, {density} g/cm3, replica {self.replica}"

        atoms = lattice(density, rng)
        atoms.calc = FlexibleWater()
        task = progress.add_task(f"{name}: classical", total=CLASSICAL_STEPS)
        # The lattice start is unphysical; a hot, slow first stretch melts it without accidents.
        advance(atoms, 500, 0.25, temperature + 200, rng)
        with_bar = langevin(atoms, TIMESTEP, temperature, rng)
        with_bar.attach(lambda: progress.advance(task, 100), interval=100)
        with_bar.run(CLASSICAL_STEPS)
        progress.remove_task(task)

        atoms.calc = TBLite(method=LEVELS["gfn1"], accuracy=0.1, verbosity=0)
        task = progress.add_task(
            f"{name}: GFN1-xTB", total=DISCARDED_STEPS + self.num_frames * STRIDE
        )
        advance(atoms, DISCARDED_STEPS // 2, TIMESTEP / 2, temperature, rng)
        snapshots, labels = [], []
        dynamics = langevin(atoms, TIMESTEP, temperature, rng)
        dynamics.attach(lambda: progress.advance(task))
        dynamics.run(DISCARDED_STEPS)
        for _ in range(self.num_frames):
            dynamics.run(STRIDE)
            snapshots.append(whole_molecules(atoms))
            labels.append(label(snapshots[-1], LEVELS["gfn1"]))
        progress.remove_task(task)

        task = progress.add_task(f"{name}: GFN2-xTB", total=self.num_frames)
        again = []
        for snapshot in snapshots:
            again.append(label(snapshot, LEVELS["gfn2"]))
            progress.advance(task)
        progress.remove_task(task)

        frames = {
            "coord": np.array([snapshot.positions for snapshot in snapshots]),
            "box": np.array([snapshot.cell.array for snapshot in snapshots]),
        }
        for level, results in (("gfn1", labels), ("gfn2", again)):
            for key in LABELS:
                frames[f"{level}_{key}"] = np.array([result[key] for result in results])
        return frames


def lattice(density: float, rng: np.random.Generator) -> Atoms:
    """Return 32 randomly turned whole molecules on a staggered lattice."""
    mass = NUM_MOLECULES * 18.01528 / units.mol  # g
    length = (mass / density * 1e24) ** (1 / 3)  # Å
    atoms = Atoms(cell=[length] * 3, pbc=True)
    for site in np.ndindex(4, 4, 2):
        water = molecule("H2O")
        turn = Rotation.random(random_state=rng).as_matrix()
        offset = np.array([site[0], site[1], 2 * site[2] + (site[0] + site[1]) % 2]) * length / 4
        water.positions = (water.positions - water.positions.mean(axis=0)) @ turn.T + offset
        atoms += water
    atoms.set_masses([MASSES[symbol] for symbol in atoms.get_chemical_symbols()])
    return atoms


def langevin(
    atoms: Atoms, timestep: float, temperature: float, rng: np.random.Generator
) -> LangevinBAOAB:
    """Return Langevin dynamics (Leimkuhler and Matthews 2013) from fresh thermal velocities."""
    spread = np.sqrt(atoms.get_masses() * (temperature * units.kB))
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * spread[:, None])
    return LangevinBAOAB(
        atoms, timestep * units.fs, temperature_K=temperature, T_tau=100 * units.fs, rng=rng
    )


def advance(
    atoms: Atoms, steps: int, timestep: float, temperature: float, rng: np.random.Generator
) -> None:
    """Move `atoms` by `steps` of Langevin dynamics."""
    langevin(atoms, timestep, temperature, rng).run(steps)


def whole_molecules(atoms: Atoms) -> Atoms:
    """Return a copy with oxygens inside the box and their hydrogens near, rounded for storage."""
    snapshot = atoms.copy()
    positions = snapshot.positions.reshape(-1, 3, 3)
    length = snapshot.cell.lengths()[0]
    positions -= length * np.floor(positions[:, :1] / length)
    snapshot.positions = positions.reshape(-1, 3).astype(np.float32)
    return snapshot


def label(atoms: Atoms, method: str) -> Frames:
    """Return energy in eV, force (N, 3) in eV/Å and virial (3, 3) = -dE/dstrain in eV."""
    single = atoms.copy()
    single.calc = TBLite(method=method, accuracy=0.1, verbosity=0)
    return {
        "energy": np.array(single.get_potential_energy()),
        "force": single.get_forces(),
        "virial": -single.get_volume() * single.get_stress(voigt=False),
    }


def save(path: Path, **arrays: NDArray[np.float64]) -> None:
    """Write an npz file completely or not at all."""
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def write_system(folder: Path, level: str, replicas: tuple[int, ...]) -> int:
    """Write one deepmd/npy system, states taking turns; return the number of frames."""
    parts = [
        dict(np.load(Trajectory(state, replica).path))
        for replica in replicas
        for state in range(len(STATES))
    ]
    keys = {"coord": "coord", "box": "box"} | {key: f"{level}_{key}" for key in LABELS}
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    (folder / "type_map.raw").write_text("O\nH\n")
    (folder / "type.raw").write_text("0\n1\n1\n" * NUM_MOLECULES)
    for name, key in keys.items():
        # (trajectory, frame, ...) -> frame by frame across trajectories
        stacked = np.stack([part[key] for part in parts], axis=1)
        flat = stacked.reshape(stacked.shape[0] * stacked.shape[1], -1)
        precision = np.float32 if name in {"coord", "force"} else np.float64
        values = flat[:, 0] if name == "energy" else flat
        np.save(folder / "set.000" / f"{name}.npy", values.astype(precision))
    return len(flat)


def main() -> None:
    """Run what is missing, then write the systems when nothing is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--share", default="0/1", metavar="I/N", help="do every N-th trajectory from I"
    )
    first, every = (int(part) for part in parser.parse_args().share.split("/"))
    WORK.mkdir(exist_ok=True)

    num_replicas = len(FRAMES_PER_TRAJECTORY)
    everything = [Trajectory(s, r) for r in range(num_replicas) for s in range(len(STATES))]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        mine = everything[first::every]
        overall = progress.add_task("trajectories", total=len(mine))
        for trajectory in mine:
            if not trajectory.path.exists():
                save(trajectory.path, **trajectory.run(progress))
            progress.advance(overall)

    missing = [trajectory.path.name for trajectory in everything if not trajectory.path.exists()]
    if missing:
        print(
            f"{len(missing)} of {len(everything)} trajectories are still to do; nothing written yet"
        )
        return
    for level in LEVELS:
        for name, replicas in (("train", (0, 1, 2)), ("test", (3,))):
            num_frames = write_system(HERE / level / name, level, replicas)
            print(f"{level}/{name}: {num_frames} frames")


if __name__ == "__main__":
    main()
