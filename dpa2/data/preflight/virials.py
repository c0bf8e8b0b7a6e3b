"""Virials in another unit or of the other sign."""

from collections.abc import Iterator

import numpy as np

from dpa2.data.preflight.opened import Opened, Surveyed
from dpa2.data.preflight.pair_forces import virial_factor
from dpa2.data.preflight.units import GPA, is_right, virial_reason
from dpa2.data.preflight.work import factors_of
from schemas.diagnostics import Finding

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
            yield Finding("ZOO462", item.entry.path, message, hint, severity="warning")


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
    return Finding(
        "ZOO461",
        item.entry.path,
        message,
        _hint("are they stresses in kB or GPa?"),
        severity="warning",
    )


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
    return Finding("ZOO461", item.entry.path, message, _hint(reason), severity="warning")


def _hint(reason: str) -> str:
    return (
        f"{reason}; a virial is -volume * stress in eV, positive under pressure: stress in eV/Å³, "
        "tension positive"
    )
