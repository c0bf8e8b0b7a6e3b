"""Neighbours of each atom within several radii, counted for many frames at once.

Where the cell is at least two cutoffs wide, every pair has one image within reach, and a few numpy
operations over all pairs beat a cell list up to about a thousand atoms. Other frames go to vesin.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import FloatArray, IntArray

_PAIRS_AT_ONCE = 65_536
_MOST_ATOMS = 1200
"""Above this, a cell list is faster than all pairs."""
_MOST_IMAGES = 1e7
"""Atoms and images within reach of a cell; thousands of atoms are far below."""


@dataclass(frozen=True, slots=True)
class Census:
    """Neighbours in F frames of N atom slots.

    Attributes:
        counts: (C, F, N) neighbours within each of C radii; 0 for padding.
        nearest: (F, N) Å to the nearest neighbour, infinite where none is within the largest radius
            (or at all, as the search may look further).
        partner: (F, N) index of the nearest neighbour; meaningless where there is none.
    """

    counts: IntArray
    nearest: FloatArray
    partner: IntArray


def census(
    coord: FloatArray, box: FloatArray | None, types: IntArray, radii: Sequence[float]
) -> Census:
    """Count neighbours.

    Frames whose atoms would have tens of thousands of neighbours are left out: their cells are
    wrong, and the search would not end.

    Args:
        coord: (F, N, 3) Å, finite.
        box: (F, 3, 3) Å with volume, rows are vectors; None: not periodic.
        types: (F, N), -1 is padding.
        radii: Å; a neighbour is closer than the radius.
    """
    num_frames, num_atoms = coord.shape[:2]
    found = Census(
        np.zeros((len(radii), num_frames, num_atoms), dtype=np.int64),
        np.full((num_frames, num_atoms), np.inf),
        np.zeros((num_frames, num_atoms), dtype=np.int64),
    )
    if num_atoms == 0:
        return found
    wide = np.full(num_frames, num_atoms <= _MOST_ATOMS)
    if box is not None:
        wide &= heights(box).min(axis=1) > 2.0 * max(radii)
    if wide.any():
        _all_pairs(coord, box, types, radii, np.flatnonzero(wide), found)
    crowded = _is_crowded(box, num_atoms, max(radii))
    for place in np.flatnonzero(~wide & ~crowded).tolist():
        _cell_list(coord[place], None if box is None else box[place], types, radii, place, found)
    return found


def _is_crowded(
    box: FloatArray | None, num_atoms: int, radius: float
) -> NDArray[np.bool_] | np.bool_:
    """Return (F,) whether an atom and its images have too many others within reach."""
    if box is None:
        return np.False_
    images = np.prod(1.0 + 2.0 * radius / heights(box), axis=1)
    return np.asarray(num_atoms * images > _MOST_IMAGES, dtype=np.bool_)


def heights(box: FloatArray) -> FloatArray:
    """Return (F, 3) Å between opposite faces of cells (F, 3, 3)."""
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(box), axis=1), dtype=np.float64)


def _all_pairs(
    coord: FloatArray,
    box: FloatArray | None,
    types: IntArray,
    radii: Sequence[float],
    frames: NDArray[np.intp],
    found: Census,
) -> None:
    """Measure all pairs of some frames, in their nearest image."""
    num_atoms = coord.shape[1]
    at_once = min(len(frames), max(1, _PAIRS_AT_ONCE // num_atoms**2))
    place, lattice = coord[frames], None
    if box is not None:
        place = place @ np.linalg.inv(box[frames])
        # box = lattice @ rotation: distances need the triangular factor only.
        lattice = np.linalg.qr(box[frames].transpose(0, 2, 1))[1].transpose(0, 2, 1)
    columns = np.ascontiguousarray(place.transpose(2, 0, 1))
    space = np.empty((5, at_once, num_atoms, num_atoms))
    diagonal = np.arange(num_atoms)
    ones = np.ones(num_atoms, dtype=np.float32)
    for start in range(0, len(frames), at_once):
        part = slice(start, start + at_once)
        chosen = frames[part]
        squared = _squared_distances(
            columns[:, part], None if lattice is None else lattice[part], space[:, : len(chosen)]
        )
        squared[:, diagonal, diagonal] = np.inf
        padding = types[chosen] < 0
        if padding.any():
            squared[padding] = np.inf
            squared.transpose(0, 2, 1)[padding] = np.inf
        for number, radius in enumerate(radii):
            # A product with ones: summing Booleans takes twice as long, and it is as exact.
            within = (squared < radius * radius).astype(np.float32)
            found.counts[number, chosen] = within @ ones
        partner = squared.argmin(axis=2)
        found.partner[chosen] = partner
        rows = np.arange(len(chosen))[:, None]
        found.nearest[chosen] = np.sqrt(squared[rows, diagonal, partner])


def _squared_distances(
    columns: FloatArray, lattice: FloatArray | None, space: FloatArray
) -> FloatArray:
    """Return (F, N, N) Å², written into `space`: fresh arrays of this size cost more than the sums.

    Args:
        columns: (3, F, N) fractional coordinates, or Å without a lattice.
        lattice: (F, 3, 3) Å, lower triangular.
        space: (5, F, N, N) to work in.
    """
    total: FloatArray = space[0]
    spare, parts = space[1], space[2:]
    slanted = lattice is not None and lattice[:, (1, 2, 2), (0, 0, 1)].any()
    total[...] = 0.0
    # An axis of a slanted cell needs the fractions of the later ones: those come first.
    for axis in (2, 1, 0):
        part = parts[axis] if slanted else parts[0]
        np.subtract(columns[axis][:, :, None], columns[axis][:, None, :], out=part)
        if lattice is not None:
            part -= np.rint(part, out=spare)
            np.multiply(part, lattice[:, axis, axis, None, None], out=spare)
            for later in range(axis + 1, 3) if slanted else ():
                spare += parts[later] * lattice[:, later, axis, None, None]
            total += np.square(spare, out=spare)
        else:
            total += np.square(part, out=spare)
    return total


def _cell_list(
    coord: FloatArray,
    box: FloatArray | None,
    types: IntArray,
    radii: Sequence[float],
    frame: int,
    found: Census,
) -> None:
    """Search one frame with vesin, which takes cells of any shape and size."""
    real = np.flatnonzero(types[frame] >= 0)
    if len(real) == 0 or (box is None and len(real) == 1):
        return
    finder: Any = load_vesin().NeighborList(cutoff=max(radii), full_list=True)
    i, j, distance = finder.compute(
        points=np.ascontiguousarray(coord[real]),
        box=np.zeros((3, 3)) if box is None else box,
        periodic=box is not None,
        quantities="ijd",
    )
    i, j = real[i.astype(np.int64)], real[j.astype(np.int64)]
    slots = coord.shape[0]
    for number, radius in enumerate(radii):
        found.counts[number, frame] = np.bincount(i[distance < radius], minlength=slots)
    np.minimum.at(found.nearest[frame], i, distance)
    closest = distance == found.nearest[frame][i]
    found.partner[frame][i[closest]] = j[closest]


def pairs_within(
    coord: FloatArray, box: FloatArray | None, radius: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return all ordered pairs (i, j) of a frame and the vectors (E, 3) Å from i to j's image."""
    if len(coord) < 1 + (box is None):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3))
    finder: Any = load_vesin().NeighborList(cutoff=radius, full_list=True)
    i, j, vector = finder.compute(
        points=np.ascontiguousarray(coord),
        box=np.zeros((3, 3)) if box is None else box,
        periodic=box is not None,
        quantities="ijD",
    )
    return i.astype(np.int64), j.astype(np.int64), vector


def load_vesin() -> ModuleType:
    """Import vesin without torch, which it would import where it is installed.

    vesin then takes numpy arrays only, and that is all we give it. Where torch is loaded already,
    nothing is different.
    """
    hidden = "torch" not in sys.modules and "vesin" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment] # an import of it fails
    try:
        import vesin
    finally:
        if hidden:
            del sys.modules["torch"]
    return vesin  # type: ignore[no-any-return]
