"""Which units make a factor of the factors between energies, forces and virials."""

import math
from collections.abc import Mapping

# CODATA 2018: eV per Hartree, Å per Bohr, eV per kcal/mol, GPa per eV/Å³.
_HARTREE, _BOHR, _KCAL, GPA = 27.211386, 0.529177, 0.0433641, 160.21766

RIGHT = (0.6, 1.65)
"""Factors in between are 1: steps between frames are not short enough to know better."""
_MANY_ATOMS = 3
"""Half of the energy, as of a molecule of two atoms, is too near to the whole."""
_ABSURD = 3.0
"""A factor beyond is a unit, if an unknown one."""


def is_right(factor: float) -> bool:
    """Tell whether a factor is 1."""
    return RIGHT[0] < factor < RIGHT[1]


def energy_reason(factor: float, num_atoms: int) -> str | None:
    """Return what may be wrong where energies change by `factor` times the work of the forces.

    Args:
        factor: 1 is right.
        num_atoms: Atoms per frame; 0 where it varies.

    Returns:
        A clause; None where nothing is wrong.
    """
    known = _energies(num_atoms) | {
        "forces are in Hartree/Bohr": _HARTREE / _BOHR,
        "forces are in Rydberg/Bohr": _HARTREE / _BOHR / 2,
        "forces are in kcal/mol/Å": _KCAL,
        "energies are in Hartree and forces in Hartree/Bohr": 1 / _BOHR,
        "forces are in eV/Bohr": 1 / _BOHR,
        "forces are gradients (the sign is reversed)": -1.0,
    }
    return _reason(factor, known, "one of them has another unit", 1.2)


def _energies(num_atoms: int) -> dict[str, float]:
    known = {
        "energies are in Hartree": 1 / _HARTREE,
        "energies are in Rydberg": 2 / _HARTREE,
        "energies are in kcal/mol": 1 / _KCAL,
    }
    if num_atoms >= _MANY_ATOMS:
        known["energies are per atom"] = 1 / num_atoms
    return known


def virial_reason(
    factor: float,
    volume: float,
    num_atoms: int,
    *,
    energies_are_right: bool,
    tolerance: float = 1.2,
) -> str | None:
    """Return what may be wrong where the right virial is `factor` times the one in the data.

    Args:
        factor: 1 is right.
        volume: Of the cells, Å³; 0 where there are none.
        num_atoms: Atoms per frame; 0 where it varies.
        energies_are_right: Whether the factor cannot be that of the energies.
        tolerance: By how much it may be off.

    Returns:
        A clause; None where nothing is wrong.
    """
    known = {"they are in Hartree": _HARTREE, "they are in kcal/mol": _KCAL}
    if volume > 0:
        known |= {
            "they are stresses in GPa times the volume": 1 / GPA,
            "they are stresses in kB times the volume": 1 / (10 * GPA),
        }
    if num_atoms > 1:
        known["they are per atom"] = float(num_atoms)
    if volume > 0:
        known |= {
            "they are stresses in kB": volume / (10 * GPA),
            "they are stresses in GPa": volume / GPA,
            "they are stresses in eV/Å³": volume,
        }
    reversed_sign = {f"{text}, and the sign is reversed": -value for text, value in known.items()}
    known |= {**reversed_sign, "the sign is reversed": -1.0}
    if not energies_are_right:
        known |= _energies(num_atoms)
    return _reason(factor, known, "they are in another unit", tolerance)


def _reason(
    factor: float, known: Mapping[str, float], otherwise: str, tolerance: float
) -> str | None:
    if is_right(factor) or factor == 0:
        return None
    apart = {
        text: abs(math.log(factor / value)) for text, value in known.items() if value * factor > 0
    }
    near = [text for text in apart if apart[text] < math.log(tolerance)]
    near.sort(key=apart.__getitem__)
    if near:
        return "perhaps " + " or ".join(near)
    return otherwise if not 1 / _ABSURD < factor < _ABSURD else None
