"""Periodic cells, distances in them, and the check that a batch is sound."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import LABELS, Fault, FloatArray, FrameError, Frames
from dpa2.data.preflight.neighbors import pairs_within
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
