"""Small labelled data sets for `zoo data check`: right ones of many kinds, ways to spoil one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.cluster import Octahedron

from tests.containers import write_npy

BONDS = {"H2": (4.75, 0.741, 1.44), "N2": (9.9, 1.098, 2.95)}
"""Depth (eV), distance (Å) and steepness (in distances) of Morse potentials."""


def write(folder: Path, frames: Sequence[Atoms]) -> Path:
    """Write structures of one composition, with the results of their calculators, as a system."""
    symbols = frames[0].get_chemical_symbols()
    names = sorted(set(symbols))
    arrays = {
        "coord": [atoms.positions.ravel() for atoms in frames],
        "energy": [atoms.get_potential_energy() for atoms in frames],
        "force": [atoms.get_forces().ravel() for atoms in frames],
    }
    if frames[0].pbc.all():
        arrays["box"] = [atoms.cell.array.ravel() for atoms in frames]
        arrays["virial"] = [
            -atoms.get_volume() * atoms.get_stress(voigt=False).ravel() for atoms in frames
        ]
    types = [names.index(symbol) for symbol in symbols]
    return write_npy(folder, arrays, types, " ".join(names))


def emt(atoms: Atoms) -> Atoms:
    """Return a copy with labels of the effective medium theory, a potential of metals."""
    done = atoms.copy()
    done.calc = EMT()
    return done


def pair(name: str, distance: float, direction: Sequence[float] = (0, 0, 1)) -> Atoms:
    """Return a diatomic molecule with labels of its Morse potential."""
    depth, best, steepness = BONDS[name]
    where = np.array(direction) / np.linalg.norm(direction) * distance / 2
    atoms = Atoms(name, [where, -where])
    atoms.calc = MorsePotential(
        epsilon=depth, r0=best, rho0=steepness * best, rcut1=20.0, rcut2=30.0
    )
    return atoms


def rattled(
    atoms: Atoms, number: int, size: float = 0.05, strain: float = 0.0, seed: int = 0
) -> list[Atoms]:
    """Return labelled copies, each a random step away from `atoms`, in slightly other cells."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        copy = atoms.copy()
        if strain:
            change = np.eye(3) + rng.normal(0, strain, (3, 3))
            copy.set_cell(copy.cell.array @ change, scale_atoms=True)
        copy.positions += rng.normal(0, size, copy.positions.shape)
        found.append(emt(copy))
    return found


def equation_of_state(element: str, low: float = 0.85, high: float = 1.2) -> list[Atoms]:
    """Return perfect crystals of many volumes."""
    atoms = bulk(element, cubic=True)
    found = []
    for volume in np.linspace(low, high, 12):
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array * volume ** (1 / 3), scale_atoms=True)
        found.append(emt(copy))
    return found


def rotating(name: str) -> list[Atoms]:
    """Return a rigid diatomic molecule that rotates."""
    angles = np.linspace(0, np.pi, 30)
    return [pair(name, BONDS[name][1], (np.sin(a), 0, np.cos(a))) for a in angles]


def turning_fast(name: str, box: float) -> list[Atoms]:
    """Return a diatomic molecule in a cell that vibrates a little and turns much."""
    rng = np.random.default_rng(4)
    found = []
    for number in range(25):
        angle = number * 0.3
        atoms = pair(name, 0.8 + rng.normal(0, 0.002), (np.sin(angle), np.cos(angle), 0.2))
        atoms.set_cell(np.eye(3) * box)
        atoms.pbc = True
        found.append(atoms)
    return found


def scaled(name: str, factors: Sequence[float]) -> list[Atoms]:
    """Return a molecule blown up."""
    atoms = molecule(name)
    return [emt(Atoms(atoms.symbols, atoms.positions * factor)) for factor in factors]


def tumbling(name: str) -> list[Atoms]:
    """Return a rigid polyatomic molecule of atoms of light elements that rotates."""
    atoms = molecule(name)
    found = []
    for number in range(24):
        copy = atoms.copy()
        copy.rotate(5.0 * number, (1, 2, 3))
        found.append(emt(copy))
    return found


def lone(element: str) -> list[Atoms]:
    """Return an atom alone in a large cell."""
    return [emt(Atoms(element, cell=np.eye(3) * 12, pbc=True))]


def crystal() -> list[Atoms]:
    """Return rattled copper, in cells that differ a little: what is spoiled."""
    return rattled(bulk("Cu", cubic=True) * (2, 2, 2), 16, strain=0.01)


def alloy(first: str, second: str, seed: int) -> list[Atoms]:
    """Return an alloy of two metals on a lattice."""
    atoms = bulk(first, cubic=True) * (2, 2, 1)
    rng = np.random.default_rng(seed)
    atoms.symbols[rng.permutation(len(atoms))[: 4 + seed]] = second
    return rattled(atoms, 8, seed=seed)


LEGITIMATE: dict[str, Callable[[], list[list[Atoms]]]] = {
    "rattled metal": lambda: [crystal()],
    "equation of state": lambda: [equation_of_state("Cu"), equation_of_state("Al")],
    "rotating H2": lambda: [rotating("H2")],
    "rotating N2": lambda: [rotating("N2")],
    "H2 that turns fast": lambda: [turning_fast("H2", 10.0)],
    "a molecule that flies apart": lambda: [scaled("CH4", np.linspace(1.7, 2.0, 12))],
    "tumbling water": lambda: [tumbling("H2O")],
    "lone atoms beside crystals": lambda: [
        lone("Cu"),
        rattled(bulk("Cu", cubic=False), 6, strain=0.02),
        lone("Al"),
        rattled(bulk("Al", cubic=True), 6, strain=0.02),
    ],
    "three metals on one lattice": lambda: [
        [emt(Atoms(name, cell=bulk("Cu").cell.array, pbc=True)) for _ in range(1)]
        for name in ("Cu", "Ni", "Al")
    ],
    "alloys": lambda: [alloy("Al", "Cu", 1), alloy("Al", "Cu", 2), alloy("Ni", "Pt", 3)],
    "cluster": lambda: [rattled(Octahedron("Cu", 3, 1), 10)],
    "clusters beside crystals": lambda: [
        rattled(Octahedron("Au", 2), 6),
        rattled(bulk("Au", cubic=False) * (6, 1, 1), 6),
    ],
    "high pressure": lambda: [
        rattled(bulk("Cu", a=3.1, cubic=True) * (2, 1, 1), 10, size=0.03, strain=0.005)
    ],
    "expanded cells": lambda: [
        rattled(bulk("Cu", a=a, cubic=True), 6, strain=0.01) for a in (4.6, 5.0, 5.4)
    ],
    "a bond that breaks": lambda: [[pair("N2", d) for d in np.linspace(0.95, 3.5, 40)]],
    "stretched bonds only": lambda: [[pair("N2", d) for d in np.linspace(1.8, 2.4, 20)]],
    "stretched hydrogen": lambda: [[pair("H2", d) for d in np.linspace(1.1, 1.5, 20)]],
    "compressed bonds": lambda: [[pair("H2", d) for d in np.linspace(0.5, 0.8, 20)]],
    "relaxation": lambda: [relaxation()],
    "a small cell": lambda: [small_cells()],
    "six frames, cells and atoms at once": lambda: [
        rattled(bulk("Au", "hcp", a=2.8816, c=4.7055) * (2, 2, 1), 6, strain=0.01)
    ],
}


def small_cells() -> list[Atoms]:
    """Return rattled cells of four atoms, whose forces are far from those of pair potentials."""
    found = []
    for seed in range(40):
        copy = bulk("Cu", a=3.6, cubic=True)
        copy.rattle(0.08, seed=seed)
        found.append(emt(copy))
    return found


def relaxation() -> list[Atoms]:
    """Return the way of a rattled crystal downhill, closer and closer steps."""
    atoms = bulk("Pd", cubic=True) * (2, 1, 1)
    atoms.rattle(0.2, seed=3)
    found = []
    for _ in range(15):
        done = emt(atoms)
        found.append(done)
        atoms.positions += 0.03 * done.get_forces()
    return found


HARTREE, BOHR, KCAL, GPA = 27.211386, 0.529177, 0.0433641, 160.21766
"""eV, Å, eV, GPa Å³ / eV."""

Arrays = dict[str, np.ndarray]


def _times(name: str, factor: float) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name] *= factor

    return change


def _volume(arrays: Arrays) -> np.ndarray:
    return np.abs(np.linalg.det(arrays["box"].reshape(-1, 3, 3)))[:, None]


def _virial(factor: float) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays["virial"] *= factor / _volume(arrays)

    return change


def _bohr(arrays: Arrays) -> None:
    arrays["coord"] /= BOHR
    arrays["box"] /= BOHR


def _nanometres(arrays: Arrays) -> None:
    arrays["coord"] /= 10
    arrays["box"] /= 10


def _fractional(arrays: Arrays) -> None:
    coord = arrays["coord"].reshape(len(arrays["box"]), -1, 3)
    box = arrays["box"].reshape(-1, 3, 3)
    arrays["coord"] = (coord @ np.linalg.inv(box)).reshape(len(box), -1)


def _per_atom(arrays: Arrays) -> None:
    arrays["energy"] /= arrays["coord"].shape[1] // 3


SPOILED: dict[str, tuple[Callable[[Arrays], None], str, str]] = {
    "Hartree": (_times("energy", 1 / HARTREE), "ZOO436", "energies are in Hartree"),
    "Rydberg": (_times("energy", 2 / HARTREE), "ZOO436", "energies are in Rydberg"),
    "kcal/mol": (_times("energy", 1 / KCAL), "ZOO436", "energies are in kcal/mol"),
    "per atom": (_per_atom, "ZOO436", "energies are per atom"),
    "Hartree/Bohr": (_times("force", BOHR / HARTREE), "ZOO436", "forces are in Hartree/Bohr"),
    "Rydberg/Bohr": (_times("force", 2 * BOHR / HARTREE), "ZOO436", "forces are in Rydberg/Bohr"),
    "kcal/mol/A": (_times("force", 1 / KCAL), "ZOO436", "forces are in kcal/mol"),
    "gradients": (_times("force", -1.0), "ZOO436", "forces are gradients"),
    "Bohr": (_bohr, "ZOO434", "coordinates and cell in Bohr"),
    "nanometres": (_nanometres, "ZOO434", "coordinates and cell in nanometres"),
    "fractional": (_fractional, "ZOO434", "fractional coordinates"),
    "virial in GPa times volume": (_times("virial", GPA), "ZOO461", "GPa times"),
    "virial in kB": (_virial(10 * GPA), "ZOO461", "kB"),
    "virial in GPa": (_virial(GPA), "ZOO461", "GPa"),
    "stress in eV/A^3": (_virial(1.0), "ZOO461", "eV/Å³"),
    "virial of the other sign": (_times("virial", -1.0), "ZOO461", "sign"),
    "stress in kB of the other sign": (_virial(-10 * GPA), "ZOO461", "kB"),
    "stress in GPa of the other sign": (_virial(-GPA), "ZOO461", "GPa"),
}
"""What was done to the data of `crystal`; the code of the finding and a part of its sentences."""
