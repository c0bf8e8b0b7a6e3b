"""Structures that are periodic in some directions: slabs, wires, and those with no cell."""

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DataError

Floats = NDArray[np.float64]

# How far beyond the cutoff images are kept apart, Å, so that the cell need not follow every move.
_MARGIN = 2.0


class PeriodicBox:
    """Makes cells that are periodic in all directions and give the same energies.

    A model sees nothing beyond its cutoff. Where a structure is not periodic, a cell vector at
    right angles to the periodic ones that keeps images farther apart than the cutoff changes
    nothing: energies, forces and virials are exactly those without images. The cell stays the same
    while it is long enough, so that neighbour lists can stay too.

    Args:
        rcut: Cutoff of the model, Å.
    """

    def __init__(self, rcut: float) -> None:
        self._rcut = rcut
        self._periodic: Floats | None = None
        self._lengths = np.zeros(0)

    def __call__(self, coord: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Floats | None:
        """Return the cell (3, 3) Å to compute in; None where no direction is periodic.

        Args:
            coord: (N, 3) Å.
            cell: (3, 3) Å, rows are vectors; those of directions without images may be anything.
            pbc: (3,) which directions are periodic.

        Raises:
            DataError: If a periodic direction has no vector, or two are parallel.
        """
        if not pbc.any():
            return None
        if pbc.all():
            return np.array(cell, dtype=np.float64)
        periodic = np.array(cell[pbc], dtype=np.float64)
        if self._periodic is None or not np.array_equal(self._periodic, periodic):
            self._periodic = periodic
            self._lengths = np.zeros(3 - len(periodic))
        normals = _normals(periodic)
        extent = np.ptp(coord @ normals.T, axis=0) if len(coord) else np.zeros(len(normals))
        if (self._lengths <= extent + self._rcut).any():
            self._lengths = extent + self._rcut + _MARGIN
        box = np.zeros((3, 3))
        box[pbc] = periodic
        box[~pbc] = normals * self._lengths[:, None]
        return box


def _normals(vectors: Floats) -> Floats:
    """Return the unit vectors (3 - P, 3) at right angles to P vectors and to each other."""
    _, lengths, directions = np.linalg.svd(vectors)
    if not (np.isfinite(vectors).all() and lengths.min() > 1e-6 * max(lengths.max(), 1.0)):
        raise DataError(
            f"the vectors of the periodic directions span no cell: {vectors.tolist()}",
            hint="give every periodic direction a vector of its own, or set its pbc to False",
        )
    return np.asarray(directions[len(vectors) :], dtype=np.float64)
