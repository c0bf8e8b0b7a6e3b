"""Values that no training survives: NaN and infinity, named by system, frame and atom."""

from collections.abc import Collection, Sequence

import numpy as np

from dpa2.data.frames import Frames
from dpa2.data.labels import LABELS
from schemas.errors import DataError

_AXES = "xyz"


def check_labels(frames: Frames, need: Collection[str] | None = None) -> None:
    """Make sure that coordinates, cells and labels are finite.

    Args:
        frames: The batch.
        need: Labels to look at (names as in `Frames`); None looks at all present.

    Raises:
        DataError: Naming the first bad number by system, frame and atom.
    """
    names = ["coord", "box", *(LABELS if need is None else need)]
    for name in names:
        values = getattr(frames, name)
        if values is None:
            continue
        bad = np.argwhere(~np.isfinite(values))
        if len(bad) == 0:
            continue
        place = bad[0].tolist()
        per_atom = name == "coord" or (name in LABELS and LABELS[name].per_atom)
        where = _describe(frames, place, per_atom=per_atom, is_vector=name in {"coord", "force"})
        raise DataError(
            f"{frames.source(place[0])}: {name} of {where} is {values[tuple(place)]}",
            hint=f"{len(bad)} bad numbers in {len(np.unique(bad[:, 0]))} of {frames.num_frames} "
            "frames read; remove these frames from the data",
        )


def _describe(frames: Frames, place: Sequence[int], *, per_atom: bool, is_vector: bool) -> str:
    text = f"frame {int(frames.indices[place[0]])}"
    if per_atom:
        text += f", atom {place[1]}"
    if is_vector:
        text += f", {_AXES[place[2]]}"
    return text
