"""Which unit makes bonds of the distances between nearest neighbours."""

from collections.abc import Callable

import numpy as np

from dpa2.data.frames import FloatArray, IntArray
from dpa2.data.preflight.neighbors import Census, census

_BOHR = 0.529177210903
"""Å (CODATA 2018)."""

_BONDED = (0.7, 1.35)
"""Distance of nearest neighbours over the sum of their covalent radii, where they are in Å."""

_Rescaling = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

UNITS: dict[str, _Rescaling] = {
    "coordinates and cell in Bohr": lambda coord, box: (coord * _BOHR, box * _BOHR),
    "coordinates in Bohr": lambda coord, box: (coord * _BOHR, box),
    "a cell in Bohr": lambda coord, box: (coord, box * _BOHR),
    "coordinates and cell in nanometres": lambda coord, box: (coord * 10, box * 10),
    "coordinates in nanometres": lambda coord, box: (coord * 10, box),
    "a cell in nanometres": lambda coord, box: (coord, box * 10),
    "fractional coordinates": lambda coord, box: (coord @ box, box),
}
"""What turns coordinates (1, N, 3) and cells (1, 3, 3) in other units into Å."""

_WITHOUT_CELL = ("coordinates in Bohr", "coordinates in nanometres")


def guess_unit(
    coord: FloatArray, box: FloatArray | None, types: IntArray, radii: FloatArray
) -> str:
    """Return in what a structure is whose atoms are nowhere bonded in Å, empty if unknown.

    The answer is a key of `UNITS`.

    Args:
        coord: (1, N, 3).
        box: (1, 3, 3), or None.
        types: (1, N).
        radii: (T,) covalent radii, Å.
    """
    reach = 2 * _BONDED[1] * float(np.nanmax(radii, initial=0.0))
    for name, rescale in UNITS.items():
        if box is None and name not in _WITHOUT_CELL:
            continue
        scaled, cell = rescale(coord, np.eye(3)[None] if box is None else box)
        found = census(scaled, None if box is None else cell, types, [reach])
        share = bonded_share(found, types, radii)
        if share is not None and share > 0.9:
            return name
    return ""


def bonded_share(found: Census, types: IntArray, radii: FloatArray) -> float | None:
    """Return the part of the atoms whose nearest neighbour is at bonding distance; None: no atom.

    Noble gases and names that are no elements do not count.
    """
    partner = np.take_along_axis(types, found.partner, axis=1)
    length = radii[types] + radii[partner]
    known = np.isfinite(length) & (types >= 0) & (partner >= 0)
    if types.shape[1] < 2 or not known.any():
        return None
    ratio = found.nearest[known] / length[known]
    return float(((ratio > _BONDED[0]) & (ratio < _BONDED[1])).mean())
