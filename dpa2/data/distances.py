"""Which frames have atoms closer than a threshold (`min_pair_dist`)."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import FloatArray, Frames

_BLOCK_PAIRS = 262_144


def far_enough(frames: Frames, threshold: float) -> NDArray[np.bool_]:
    """Return (F,) whether all pairs of atoms of a frame, images included, are `threshold` Å apart.

    Padding does not count.
    """
    return np.array(
        [
            not _any_closer(
                frames.coord[i][frames.atom_types[i] >= 0],
                None if frames.box is None else frames.box[i],
                threshold,
            )
            for i in range(frames.num_frames)
        ],
        dtype=np.bool_,
    )


def _any_closer(coord: FloatArray, box: FloatArray | None, threshold: float) -> bool:
    """Tell whether two atoms of a frame are closer than `threshold` Å."""
    shifts = np.zeros((1, 3)) if box is None else _image_shifts(box, threshold)
    inverse = None if box is None else np.linalg.inv(box)
    rows = max(1, _BLOCK_PAIRS // max(1, len(coord)))
    for start in range(0, len(coord), rows):
        block = coord[start : start + rows]
        difference = coord[np.newaxis] - block[:, np.newaxis]
        if box is not None and inverse is not None:
            difference -= np.round(difference @ inverse) @ box
        for shift in shifts:
            squared = np.square(difference + shift).sum(axis=-1)
            if not shift.any():
                own = np.arange(len(block))
                squared[own, start + own] = np.inf
            if (squared < threshold**2).any():
                return True
    return False


def _image_shifts(box: FloatArray, threshold: float) -> FloatArray:
    """Return the lattice vectors (S, 3) that can bring an atom within reach after wrapping.

    A wrapped difference has fractional components within [-1/2, 1/2]; an image closer than the
    threshold has components within threshold / height, so that few shifts remain, mostly one.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)
    reach = np.floor(threshold / heights + 0.5).astype(int)
    cells = product(*(range(-n, n + 1) for n in reach))
    shifts = np.asarray([np.asarray(cell, dtype=np.float64) @ box for cell in cells])
    # Nearest first: a close pair usually shows without any shift, which ends the search.
    return shifts[np.argsort(np.square(shifts).sum(axis=1), kind="stable")]
