"""Small labelled data sets for `zoo data check`, and ways to spoil one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

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


def times(name: str, factor: float) -> Callable[[Arrays], None]:
    """Return what multiplies labels."""

    def change(arrays: Arrays) -> None:
        arrays[name] *= factor

    return change


def _volume(arrays: Arrays) -> np.ndarray:
    return np.abs(np.linalg.det(arrays["box"].reshape(-1, 3, 3)))[:, None]


def virial(factor: float) -> Callable[[Arrays], None]:
    """Return what writes virials as stresses times a factor (1 / eV/Å³)."""

    def change(arrays: Arrays) -> None:
        arrays["virial"] *= factor / _volume(arrays)

    return change


def bohr(arrays: Arrays) -> None:
    """Write lengths in Bohr."""
    arrays["coord"] /= BOHR
    arrays["box"] /= BOHR


def nanometres(arrays: Arrays) -> None:
    """Write lengths in nanometres."""
    arrays["coord"] /= 10
    arrays["box"] /= 10


def fractional(arrays: Arrays) -> None:
    """Write coordinates as multiples of the cell's vectors."""
    coord = arrays["coord"].reshape(len(arrays["box"]), -1, 3)
    box = arrays["box"].reshape(-1, 3, 3)
    arrays["coord"] = (coord @ np.linalg.inv(box)).reshape(len(box), -1)


def per_atom(arrays: Arrays) -> None:
    """Write energies of an atom."""
    arrays["energy"] /= arrays["coord"].shape[1] // 3
