"""Checks of periodic cells."""

import numpy as np

from dpa2.data.frames import FloatArray
from schemas.errors import DataError

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
