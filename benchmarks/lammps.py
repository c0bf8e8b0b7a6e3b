"""LAMMPS with deepmd-kit's plugin as a contestant: a frozen model, 64-bit, on ranks and threads."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from water_box import Peer
from workload import CACHE, Work

from dpa2.formats.conversion import freeze
from dpa2.interfaces.lammps import lammps_data, lammps_structure

FOLDER = CACHE / "benchmarks" / "lammps"
# The first steps, in which TorchScript compiles, are not timed.
WARMUP = 3
SCRIPT = f"""\
units metal
atom_style atomic
atom_modify map yes
newton on
boundary p p p
read_data ${{data}}
pair_style deepmd ${{model}}
pair_coeff * * O H
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
velocity all create 300 1
timestep 0.00025
fix move all nve
thermo 1000000
run {WARMUP}
run ${{steps}}
"""


@dataclass(frozen=True)
class Simulation:
    """Some steps of molecular dynamics; every repetition is a process of its own.

    Attributes:
        peer: deepmd-kit's environment.
        model: Frozen.
        work: Its atoms and threads.
        ranks: MPI processes.
        steps: That are timed.
    """

    peer: Peer
    model: Path
    work: Work
    ranks: int = 1
    steps: int = 5

    def run(self) -> float:
        """Return the seconds a step, of LAMMPS's own clock."""
        log = FOLDER / "log.lammps"
        variables = {"data": written_data(self.work), "model": self.model, "steps": self.steps}
        command: list[object] = [self.peer.lammps, "-in", FOLDER / "in.lammps", "-log", log]
        for key, value in variables.items():
            command += ["-var", key, value]
        if self.ranks > 1:
            command = [self.peer.folder / "bin" / "mpirun", "-np", self.ranks, *command]
        call(self.peer.environment(self.work.threads), command)
        loops = [line for line in log.read_text().splitlines() if line.startswith("Loop time of")]
        return float(loops[-1].split()[3]) / self.steps

    def stop(self) -> dict[str, Any]:
        """Nothing is left running."""
        return {}


def frozen_models(peer: Peer, work: Work) -> dict[str, Path]:
    """Freeze the same checkpoint with both programs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "in.lammps").write_text(SCRIPT)
    checkpoint, ours, theirs = work.folder / "model.pt", FOLDER / "ours.pth", FOLDER / "theirs.pth"
    freeze(checkpoint, ours)
    command = [peer.folder / "bin" / "dp", "--pt", "freeze", "-c", checkpoint, "-o", theirs]
    call(peer.environment(1), command)
    return {"ours": ours, "deepmd-kit .pth": theirs}


def written_data(work: Work) -> Path:
    """Return LAMMPS's data file of a box of water."""
    (coord,), (box,), atype = work.arrays()
    atoms = Atoms(np.array(["O", "H"])[atype], coord, cell=box, pbc=True)
    path = FOLDER / f"{work.atoms}.data"
    path.write_text(lammps_data(lammps_structure(atoms, ("O", "H"))))
    return path


def call(environment: Mapping[str, str], command: list[Any]) -> None:
    """Run a program of deepmd-kit's environment; raises RuntimeError with its output."""
    done = subprocess.run(
        [str(word) for word in command],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
