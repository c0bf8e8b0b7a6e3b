"""Neighbours of each atom within several radii, and the unit that makes bonds of distances."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import FloatArray, Frames, IntArray
from schemas.base.names import SYMBOLS

# B. Cordero et al., Dalton Trans. 2008, 2832, table 2 (Å), in the order of atomic numbers, H to Cm;
# the larger of two values where a metal has a low-spin and a high-spin one, sp3 for carbon.
_RADII = (
    0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05,
    1.02, 1.06, 2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.61, 1.52, 1.50, 1.24, 1.32, 1.22, 1.22, 1.20,
    1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44,
    1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96,
    1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32,
    1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69,
)  # fmt: skip

_UNBOUND = {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}
"""Elements whose atoms are far apart at all times."""


def covalent_radii(elements: Sequence[str]) -> FloatArray:
    """Return (T,) radii in Å; NaN for noble gases and for what is no element."""
    table = dict(zip(SYMBOLS, _RADII, strict=False))
    return np.array(
        [math.nan if name in _UNBOUND else table.get(name, math.nan) for name in elements],
        dtype=np.float64,
    )


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


_BOHR = 0.529177210903
"""Å (CODATA 2018)."""

_BONDED = (0.7, 1.35)
"""Distance of nearest neighbours over the sum of their covalent radii, where they are in Å."""
_USUAL = (0.8, 1.25)
"""The same ratio at rest, which another unit must make: stretched bonds are longer than in Å."""
_MULTIPLE = 0.75
"""The lower end of that where double and triple bonds are usual, among small atoms."""
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
