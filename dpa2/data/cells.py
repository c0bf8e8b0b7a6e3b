"""Periodic cells, neighbours in them, and the check that a batch is sound."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import LABELS, Fault, FloatArray, FrameError, Frames, IntArray
from schemas.base.errors import DataError

LEAST_VOLUME = 1e-8
"""Å³; a cell with less has none."""
NOPBC_HINT = "for a system without periodic boundaries put an empty file nopbc beside type.raw"


def find_bad_cells(boxes: FloatArray) -> dict[int, str]:
    """Return what is wrong with cells (F, 3, 3) that are not finite or have no volume, by frame."""
    infinite = np.flatnonzero(~np.isfinite(boxes).all(axis=(1, 2))).tolist()
    known = boxes.copy()
    known[infinite] = np.eye(3)
    with np.errstate(all="ignore"):  # the determinant of huge numbers
        flat = np.flatnonzero(~(np.abs(np.linalg.det(known)) > LEAST_VOLUME)).tolist()
    faults = dict.fromkeys(infinite, "NaN or infinity in its cell")
    return dict(sorted({**faults, **dict.fromkeys(flat, "a cell without volume")}.items()))


def check_boxes(
    boxes: FloatArray, where: str, warnings: list[str], *, first: int = 0, keep_bad: bool = False
) -> None:
    """Refuse cells that are not finite or have no volume; warn of left-handed ones.

    Args:
        boxes: (F, 3, 3) Å.
        where: The file, for messages.
        warnings: Receives a sentence for cells with a negative determinant.
        first: Number of the first frame in its system.
        keep_bad: Leave bad cells to whoever evaluates the frames.

    Raises:
        DataError: Naming the first bad frame by its number in the system.
    """
    bad = find_bad_cells(boxes)
    for place, fault in bad.items() if not keep_bad else ():
        hint = NOPBC_HINT if "volume" in fault else "remove the frame"
        raise DataError(f"{where}: frame {first + place} has {fault}", hint=hint)
    good = np.setdiff1d(np.arange(len(boxes)), list(bad))
    left = good[np.linalg.det(boxes[good]) < 0]
    if left.size:
        warnings.append(
            f"{where} has {left.size} left-handed cells (negative determinant), first at frame "
            f"{first + left[0]}; deepmd-kit computes wrong energies for them"
        )


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
        self._periodic: FloatArray | None = None
        self._lengths = np.zeros(0)

    def __call__(
        self, coord: FloatArray, cell: FloatArray, pbc: NDArray[np.bool_]
    ) -> FloatArray | None:
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


def _normals(vectors: FloatArray) -> FloatArray:
    """Return the unit vectors (3 - P, 3) at right angles to P vectors and to each other."""
    _, lengths, directions = np.linalg.svd(vectors)
    if not (np.isfinite(vectors).all() and lengths.min() > 1e-6 * max(lengths.max(), 1.0)):
        raise DataError(
            f"the vectors of the periodic directions span no cell: {vectors.tolist()}",
            hint="give every periodic direction a vector of its own, or set its pbc to False",
        )
    return np.asarray(directions[len(vectors) :], dtype=np.float64)


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


def far_enough(frames: Frames, threshold: float) -> NDArray[np.bool_]:
    """Return (F,) whether all pairs of atoms of a frame, images included, are `threshold` Å apart.

    Padding does not count; neither do positions that are not numbers, which are named later.
    """
    far = np.ones(frames.num_frames, dtype=np.bool_)
    for frame in range(frames.num_frames):
        coord = frames.coord[frame][frames.atom_types[frame] >= 0]
        if np.isfinite(coord).all():
            box = None if frames.box is None else frames.box[frame]
            vectors = pairs_within(coord, box, threshold)[2]
            far[frame] = not (np.linalg.norm(vectors, axis=1) < threshold).any()
    return far


_AXES = "xyz"


def check_labels(frames: Frames, need: Collection[str] | None = None) -> None:
    """Make sure that cells have a volume and all numbers are finite.

    Args:
        frames: The batch.
        need: Labels to look at (names as in `Frames`); None looks at all present.

    Raises:
        FrameError: Names the first bad number by system, frame and atom; has all bad frames.
    """
    faults: dict[int, Fault] = {}
    messages: list[str] = []
    for name in ["coord", "box", *(LABELS if need is None else need)]:
        values = getattr(frames, name)
        bad = np.argwhere(~np.isfinite(values)) if values is not None else np.zeros((0, 1))
        if len(bad) == 0:
            continue
        numbers, first = np.unique(bad[:, 0], return_index=True)
        hint = (
            f"{len(bad)} bad numbers in {len(numbers)} of {frames.num_frames} frames read; "
            "remove these frames from the data"
        )
        for place in bad[first].tolist():
            whose = _whose(frames, name, place)
            value = values[tuple(place)]
            system, _, frame = frames.name_of(place[0]).rpartition(": ")
            messages.append(f"{system}: {name} of {frame}{whose} is {value}")
            faults.setdefault(place[0], Fault(f"{name}{whose} is {value}", hint))
    for place, fault in find_bad_cells(frames.box).items() if frames.box is not None else ():
        faults.setdefault(place, Fault(f"it has {fault}", NOPBC_HINT))
    if faults:
        first_of_all = min(faults)
        plain = f"{frames.name_of(first_of_all)}: {faults[first_of_all].reason}"
        raise FrameError(faults, messages[0] if messages else plain)


def _whose(frames: Frames, name: str, place: Sequence[int]) -> str:
    """Return atom and axis of a number in an array of `Frames`."""
    per_atom = name == "coord" or (name in LABELS and LABELS[name].per_atom)
    atom = f", atom {frames.place(place[0], place[1])}" if per_atom else ""
    return atom + (f", {_AXES[place[2]]}" if name in {"coord", "force"} else "")
