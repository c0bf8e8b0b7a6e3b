"""Which unit makes bonds of the distances between nearest neighbours."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import FloatArray, Frames, IntArray
from dpa2.data.preflight.neighbors import Census, census

_BOHR = 0.529177210903
"""Å (CODATA 2018)."""

_BONDED = (0.7, 1.35)
"""Distance of nearest neighbours over the sum of their covalent radii, where they are in Å."""
_USUAL = (0.8, 1.25)
"""Idem at rest: what another unit must make of them. Stretched bonds are longer than in Å."""
_MULTIPLE = 0.75
"""Idem where double and triple bonds are usual, among small atoms."""
_SMALL_ATOM = (0.6, 0.8)
"""Å; covalent radii of C, N and O, which have multiple bonds, lie in between."""
_ONE_WAY = 0.6
"""Mean over root mean square of forces that all point the same way."""
_FRACTION = 2.0
"""Fractional coordinates are below: most lie in the cell."""
_MOST = 0.7
"""Part of the atoms that must be at usual distances in the other unit."""
_FEW_ATOMS = 3
"""Molecules of fewer atoms may be stretched as a whole: distances alone do not speak for Bohr."""

_Rescaling = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

UNITS: dict[str, _Rescaling] = {
    "fractional coordinates": lambda coord, box: (coord @ box, box),
    "coordinates and cell in Bohr": lambda coord, box: (coord * _BOHR, box * _BOHR),
    "coordinates in Bohr": lambda coord, box: (coord * _BOHR, box),
    "a cell in Bohr": lambda coord, box: (coord, box * _BOHR),
    "coordinates and cell in nanometres": lambda coord, box: (coord * 10, box * 10),
    "coordinates in nanometres": lambda coord, box: (coord * 10, box),
    "a cell in nanometres": lambda coord, box: (coord, box * 10),
}
"""What turns coordinates (1, N, 3) and cells (1, 3, 3) in other units into Å."""

_WITHOUT_CELL = ("coordinates in Bohr", "coordinates in nanometres")


def guess_unit(
    coord: FloatArray,
    box: FloatArray | None,
    types: IntArray,
    radii: FloatArray,
    *,
    stretched: bool,
) -> str:
    """Return in what a structure is whose atoms are nowhere bonded in Å, empty if unknown.

    The answer is a key of `UNITS`.

    Args:
        coord: (1, N, 3).
        box: (1, 3, 3), or None.
        types: (1, N).
        radii: (T,) covalent radii, Å.
        stretched: Bonds are known to be: then they do not speak for Bohr.
    """
    reach = 2 * _BONDED[1] * float(np.nanmax(radii, initial=0.0))
    for name, rescale in UNITS.items():
        if box is None and name not in _WITHOUT_CELL:
            continue
        if "fractional" in name and np.abs(coord[types >= 0]).max(initial=0.0) > _FRACTION:
            continue
        if "Bohr" in name and (stretched or (types >= 0).sum() < _FEW_ATOMS):
            continue
        scaled, cell = rescale(coord, np.eye(3)[None] if box is None else box)
        found = census(scaled, None if box is None else cell, types, [reach])
        ratio = bond_ratios(found, types, radii)
        if len(ratio) and is_usual(found, types, radii).mean() > _MOST:
            return name
    return ""


def bond_ratios(found: Census, types: IntArray, radii: FloatArray) -> FloatArray:
    """Return distances of nearest neighbours over the sums of covalent radii, (A,) known atoms.

    Noble gases and names that are no elements do not count.
    """
    length, known = _lengths(found, types, radii)
    return np.asarray(found.nearest[known] / length[known], dtype=np.float64)


def are_pulled(frames: Frames, found: Census) -> bool:
    """Tell whether forces pull nearly all atoms towards their nearest neighbours.

    Bonds are then stretched, whatever the unit; around places of rest, forces point either way.
    """
    if frames.force is None:
        return False
    place = np.take_along_axis(frames.coord, found.partner[..., None], axis=1) - frames.coord
    if frames.box is not None:
        place -= np.rint(place @ np.linalg.inv(frames.box)) @ frames.box
    has = np.isfinite(found.nearest) & (found.nearest > 0)
    pull = ((frames.force * place).sum(axis=-1))[has] / found.nearest[has]
    pull = pull[np.isfinite(pull)]
    return bool(len(pull)) and pull.mean() > _ONE_WAY * np.sqrt(np.square(pull).mean()) > 0


def is_bonded(ratio: FloatArray) -> NDArray[np.bool_]:
    """Tell which of the ratios are those of bonds."""
    return (ratio > _BONDED[0]) & (ratio < _BONDED[1])


def is_usual(found: Census, types: IntArray, radii: FloatArray) -> NDArray[np.bool_]:
    """Tell which of the nearest neighbours (A,) are as far as in molecules and crystals at rest."""
    length, known = _lengths(found, types, radii)
    ratio = found.nearest[known] / length[known]
    small = (radii > _SMALL_ATOM[0]) & (radii < _SMALL_ATOM[1])
    both_small = (small[types] & small[np.take_along_axis(types, found.partner, axis=1)])[known]
    return (ratio > np.where(both_small, _MULTIPLE, _USUAL[0])) & (ratio < _USUAL[1])


def _lengths(
    found: Census, types: IntArray, radii: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the sum of covalent radii (F, N) of nearest neighbours, and where it is known."""
    partner = np.take_along_axis(types, found.partner, axis=1)
    length = radii[types] + radii[partner]
    return length, np.isfinite(length) & (types >= 0) & (partner >= 0) & (types.shape[1] > 1)
