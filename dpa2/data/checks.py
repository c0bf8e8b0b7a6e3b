"""Values that nothing survives: NaN, infinity, cells without volume."""

from collections.abc import Collection, Sequence

import numpy as np

from dpa2.data.bad_frames import Fault, FrameError
from dpa2.data.cells import NOPBC_HINT, find_bad_cells
from dpa2.data.frames import Frames
from dpa2.data.labels import LABELS

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
