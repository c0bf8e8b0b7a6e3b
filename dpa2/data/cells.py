"""Checks of periodic cells."""

import numpy as np

from dpa2.data.frames import FloatArray
from schemas.errors import DataError


def check_boxes(boxes: FloatArray, where: str, warnings: list[str]) -> None:
    """Refuse cells that are not finite or have no volume; warn of left-handed ones.

    Args:
        boxes: (F, 3, 3) Å.
        where: The file, for messages.
        warnings: Receives a sentence for cells with a negative determinant.

    Raises:
        DataError: Naming the first bad frame.
    """
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=(1, 2)))
    if bad.size:
        raise DataError(f"{where} frame {bad[0]} has NaN or infinity")
    volumes = np.linalg.det(boxes)
    flat = np.flatnonzero(np.abs(volumes) < 1e-9)
    if flat.size:
        raise DataError(
            f"{where} frame {flat[0]} has a cell without volume",
            hint="for a system without periodic boundaries put an empty file nopbc beside type.raw",
        )
    left = np.flatnonzero(volumes < 0)
    if left.size:
        warnings.append(
            f"{where} has {left.size} left-handed cells (negative determinant), first at frame "
            f"{left[0]}; deepmd-kit computes wrong energies for them"
        )
