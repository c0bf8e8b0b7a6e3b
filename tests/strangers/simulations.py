"""Simulations that are written in tests: what they are written of, and what stands in them."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

from dpa2.ase import Calculator, Parameters
from dpa2.evaluate.potential import Potential, load
from dpa2.interfaces.md import MdSettings
from dpa2.interfaces.simulation import write_simulation
from tests.evaluate.conftest import GOLDEN

load_once = functools.cache(load)
NO_PARAMETERS = Parameters()


class Md:
    """Writes simulations to one folder, with frozen models for LAMMPS and checkpoints for ASE."""

    def __init__(self, folder: Path, frozen: dict[str, Path]) -> None:
        self.folder, self.frozen = folder, frozen

    def __call__(
        self, atoms, engine="lammps", model="small", parameters=NO_PARAMETERS, **settings
    ) -> Any:
        settings = {"ensemble": "nve", "steps": 4, "dump_every": 2} | settings
        file = self.frozen[model] if engine == "lammps" else GOLDEN / model / "model.pt"
        return write_simulation(
            atoms, file, self.folder, engine, MdSettings(**settings), parameters=parameters
        )

    def script(self) -> list[list[str]]:
        """Return the words of the lines of LAMMPS's input."""
        lines = (self.folder / "in.lammps").read_text().splitlines()
        words = [line.partition("#")[0].split() for line in lines]
        return [line for line in words if line]

    def starting(self, *words: str) -> list[list[str]]:
        """Return the lines of the input that begin with these words."""
        return [line for line in self.script() if line[: len(words)] == list(words)]

    def data(self) -> Atoms:
        """Return the structure that LAMMPS reads."""
        return read(self.folder / "structure.data", format="lammps-data", atom_style="atomic")


def water_of(case: str = "small") -> Atoms:
    """Return the first frame of a golden case of water."""
    with np.load(GOLDEN / case / "expected.npz") as frames:
        symbols = [("O", "H")[number] for number in frames["atype"]]
        return Atoms(symbols, frames["coord"][0], cell=frames["box"][0], pbc=True)


def energy(potential: Potential, atoms: Atoms) -> float:
    """Return the energy of a structure, whatever hangs on it."""
    twin = atoms.copy()
    twin.set_constraint()
    twin.calc = Calculator(potential)
    return twin.get_potential_energy()


def rotated(atoms: Atoms) -> Atoms:
    """Turn a structure with its cell."""
    atoms.rotate(40, (1, 2, 3), rotate_cell=True)
    return atoms


def with_cell(atoms: Atoms, change: list[list[float]]) -> Atoms:
    """Give a structure other cell vectors."""
    atoms.set_cell(np.array(change) @ atoms.cell.array)
    return atoms


def with_pbc(atoms: Atoms, pbc: list[bool]) -> Atoms:
    """Make a structure periodic in some directions."""
    atoms.pbc = pbc
    return atoms


def with_masses(atoms: Atoms, masses: dict[int, float]) -> Atoms:
    """Give some atoms other masses."""
    everything = atoms.get_masses()
    everything[list(masses)] = list(masses.values())
    atoms.set_masses(everything)
    return atoms
