"""A flexible three-site water model, cheap enough to melt and equilibrate a box in seconds.

Only the *starting points* of the xTB trajectories come from here; no label does. Charges, force
constants and the Lennard-Jones site are those of SPC/Fw (Wu, Tepper and Voth, J. Chem. Phys. 124,
024503 (2006)); the equilibrium geometry is shorter and narrower so that molecules arrive close to
their xTB shape. Electrostatics are damped and force-shifted (Fennell and Gezelter, J. Chem. Phys.
124, 234104 (2006)).
"""

from typing import ClassVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray
from scipy.special import erfc

Array = NDArray[np.float64]

KCAL = units.kcal / units.mol
COULOMB = units.Hartree * units.Bohr  # eV Å
BOND_CONSTANT = 1059.162 * KCAL  # eV/Å^2
BOND_LENGTH = 0.95  # Å
ANGLE_CONSTANT = 75.90 * KCAL  # eV/rad^2
ANGLE = np.deg2rad(108.0)
EPSILON = 0.1554253 * KCAL  # eV
SIGMA = 3.165492  # Å
CHARGES = (-0.82, 0.41, 0.41)  # e
DAMPING = 0.2  # 1/Å


class FlexibleWater(Calculator):
    """ASE calculator for O H H O H H ... in a cubic box, interactions cut at half its length."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Store the energy (eV) and the forces (N, 3) in eV/Å of `atoms`."""
        super().calculate(atoms, properties, system_changes)
        positions = self.atoms.get_positions()
        box_length = float(self.atoms.cell.lengths()[0])
        inside_energy, inside = _intramolecular(positions)
        between_energy, between = _intermolecular(positions, box_length)
        self.results = {
            "energy": inside_energy + between_energy,
            "forces": inside + between,
        }


def _intramolecular(positions: Array) -> tuple[float, Array]:
    """Return energy and forces of harmonic bonds and harmonic angles; molecules must be whole."""
    oxygen, first, second = positions.reshape(-1, 3, 3).transpose(1, 0, 2)
    energy = 0.0
    forces = np.zeros((len(oxygen), 3, 3))
    directions, lengths = [], []
    for site, hydrogen in ((1, first), (2, second)):
        bond = hydrogen - oxygen
        length = np.linalg.norm(bond, axis=1)
        unit = bond / length[:, None]
        stretch = length - BOND_LENGTH
        energy += 0.5 * BOND_CONSTANT * float(stretch @ stretch)
        pull = -BOND_CONSTANT * stretch[:, None] * unit
        forces[:, site] += pull
        forces[:, 0] -= pull
        directions.append(unit)
        lengths.append(length)

    cosine = np.einsum("mx,mx->m", *directions)
    angle = np.arccos(cosine)
    energy += 0.5 * ANGLE_CONSTANT * float(np.sum((angle - ANGLE) ** 2))
    slope = ANGLE_CONSTANT * (angle - ANGLE) / np.sin(angle)
    for site, near, far in ((1, 0, 1), (2, 1, 0)):
        across = directions[far] - cosine[:, None] * directions[near]
        turn = (slope / lengths[near])[:, None] * across
        forces[:, site] += turn
        forces[:, 0] -= turn
    return energy, forces.reshape(-1, 3)


def _intermolecular(positions: Array, box_length: float) -> tuple[float, Array]:
    """Return energy and forces of charges and oxygen-oxygen Lennard-Jones in the nearest image."""
    num_molecules = len(positions) // 3
    cutoff = box_length / 2
    molecule = np.repeat(np.arange(num_molecules), 3)
    charge = np.tile(CHARGES, num_molecules)
    oxygen = np.tile([True, False, False], num_molecules)

    i, j = np.nonzero(molecule[:, None] < molecule[None, :])
    vector = positions[i] - positions[j]
    vector -= box_length * np.rint(vector / box_length)
    inside = np.einsum("px,px->p", vector, vector) < cutoff**2
    i, j, vector = i[inside], j[inside], vector[inside]
    r = np.linalg.norm(vector, axis=1)

    edge, edge_slope = _damped_coulomb(np.array(cutoff))
    potential, slope = _damped_coulomb(r)
    pair_charges = COULOMB * charge[i] * charge[j]
    energy = pair_charges * (potential - edge - edge_slope * (r - cutoff))
    slope = pair_charges * (slope - edge_slope)

    oxygens = oxygen[i] & oxygen[j]
    power = np.where(oxygens, (SIGMA / r) ** 6, 0.0)
    energy += 4 * EPSILON * (power**2 - power)
    slope -= 4 * EPSILON * (12 * power**2 - 6 * power) / r

    push = -(slope / r)[:, None] * vector
    forces = np.zeros_like(positions)
    np.add.at(forces, i, push)
    np.add.at(forces, j, -push)
    return float(energy.sum()), forces


def _damped_coulomb(r: Array) -> tuple[Array, Array]:
    """Return erfc(a r)/r and its derivative."""
    value = erfc(DAMPING * r) / r
    gauss = 2 * DAMPING / np.sqrt(np.pi) * np.exp(-((DAMPING * r) ** 2))
    return value, -(value + gauss) / r
