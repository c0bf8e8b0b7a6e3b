"""Units of energies, forces and virials: what is wrong by which factor."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from dpa2.data.preflight.opened import Opened, Surveyed
from dpa2.data.preflight.work import factors_of, virial_factor
from schemas.base.diagnostics import Finding

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


_MOST_PRESSURE = 500.0
"""GPa; the centre of the Earth has 360. Atoms that are not pressed together have less."""
_MOST_AT_ALL = 5000.0
_PRESSED = 0.75
"""Of the sum of the covalent radii."""
_SKEW = 0.05
_ESTIMATE = 1.5
"""Factor by which pair potentials may be off where they name a unit."""
_FAR = 20.0
"""A factor beyond is another unit although no known one."""
_RIGHT_BY_PAIRS = (0.35, 1.8)
"""Factors in between are 1 where pair potentials stand for the forces: in metals they are low."""


def check_virials(section: Opened) -> Iterator[Finding]:
    """Compare virials with energies, with forces, and with what matter bears."""
    for item in section.systems:
        if item.facts.unit or not item.system.has("virial"):
            continue
        found = _by_work(item) or _by_forces(item) or _by_size(item)
        if found is not None:
            yield found
        skew = item.facts.asymmetry
        if len(skew) and np.nanmedian(skew) > _SKEW:
            frame = int(np.nanargmax(skew))
            message = f"{item.name}: virials are not symmetric, such as that of frame {frame}"
            hint = "nine numbers a frame, row by row: xx xy xz yx yy yz zx zy zz"
            yield item.finding("ZOO462", message, hint)


def _by_work(item: Surveyed) -> Finding | None:
    """Compare with energies of cells that differ a little."""
    factors = factors_of(item.facts.work)
    if factors.virial is None:
        return None
    factor = factors.virial / (factors.force or 1.0)
    seen = f"between cells, energies change by {factors.virial:.3g} times the work of the stress"
    right = factors.force is not None
    return _finding(item, factor, seen, energies_are_right=right)


def _by_forces(item: Surveyed) -> Finding | None:
    factor = virial_factor(item.facts.virials, periodic=item.system.periodic)
    of_forces = factors_of(item.facts.work).force
    if factor is None or not (of_forces is None or is_right(of_forces)):
        return None
    if item.system.periodic and _RIGHT_BY_PAIRS[0] < factor < _RIGHT_BY_PAIRS[1]:
        return None
    seen = f"forces make about {factor:.3g} times these virials"
    tolerance = _ESTIMATE if item.system.periodic else 1.2
    found = _finding(item, factor, seen, energies_are_right=True, tolerance=tolerance)
    is_named = found is not None and "perhaps" in str(found.hint)
    is_far = not 1 / _FAR < abs(factor) < _FAR
    return found if is_named or is_far or not item.system.periodic else None  # an estimate only


def _by_size(item: Surveyed) -> Finding | None:
    pressure = item.facts.pressure * GPA
    pressure = pressure[np.isfinite(pressure)]
    if not len(pressure):
        return None
    most = _MOST_PRESSURE if item.facts.bond_ratio > _PRESSED else _MOST_AT_ALL
    if np.median(pressure) < most:
        return None
    message = (
        f"{item.name}: virials are those of a pressure of {np.median(pressure):.3g} GPa, in atoms "
        "that are not pressed together"
    )
    return item.finding("ZOO461", message, _hint("are they stresses in kB or GPa?"))


def _finding(
    item: Surveyed,
    factor: float,
    seen: str,
    *,
    energies_are_right: bool,
    tolerance: float = 1.2,
) -> Finding | None:
    facts = item.facts
    reason = virial_reason(
        factor,
        facts.volume,
        facts.same_number,
        energies_are_right=energies_are_right,
        tolerance=tolerance,
    )
    if reason is None:
        return None
    message = f"{item.name}: {seen}"
    return item.finding("ZOO461", message, _hint(reason))


def _hint(reason: str) -> str:
    return (
        f"{reason}; a virial is -volume * stress in eV, positive under pressure: stress in eV/Å³, "
        "tension positive"
    )
