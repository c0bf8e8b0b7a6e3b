"""Evaluation of many frames that bad ones do not end: these are named, the others evaluated."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpa2.data.bad_frames import Fault, FrameError
from dpa2.data.checks import check_labels
from dpa2.data.frames import Frames

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that could not be evaluated.

    Attributes:
        name: How messages call it: system and number.
        system: Name of its system.
        frame: Its number there, from 0.
        reason: What is wrong with it.
    """

    name: str
    system: str
    frame: int
    reason: str

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.name}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {"system": self.system, "frame": self.frame, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Evaluated(Generic[T]):
    """What came of a batch of frames.

    Attributes:
        good: (G,) positions of the good frames in the batch.
        frames: The good frames.
        result: What the function said of them; None without any.
        bad: The others.
    """

    good: NDArray[np.int64]
    frames: Frames
    result: T | None
    bad: list[BadFrame]


def evaluate_good(
    frames: Frames,
    evaluate: Callable[[Frames], T],
    need: Collection[str] | None = None,
    *,
    strict: bool = False,
) -> Evaluated[T]:
    """Evaluate the frames of a batch that can be evaluated.

    A batch with bad frames is evaluated again without them.

    Args:
        frames: The batch.
        evaluate: Raises `FrameError` for bad frames.
        need: Labels that must be finite; None: all that are there.
        strict: Raise the first error instead.

    Raises:
        FrameError: If a frame is bad and `strict`.
    """
    good = np.arange(frames.num_frames)
    faults: dict[int, Fault] = {}
    result: T | None = None
    while len(good):
        part = frames if len(good) == frames.num_frames else frames.select(good)
        try:
            check_labels(part, need)
            result = evaluate(part)
            break
        except FrameError as error:
            if strict:
                raise
            faults |= {int(good[place]): fault for place, fault in error.faults.items()}
            good = np.delete(good, list(error.faults))
    bad = [
        BadFrame(
            frames.name_of(place),
            frames.source(place),
            int(frames.indices[place]),
            faults[place].reason,
        )
        for place in sorted(faults)
    ]
    return Evaluated(good, frames.select(good), result, bad)


def with_gaps(
    values: NDArray[np.float64], good: NDArray[np.int64], num_frames: int
) -> NDArray[np.float64]:
    """Return rows (G, ...) of the good frames among rows of NaN for the bad ones, (F, ...)."""
    if len(good) == num_frames:
        return values
    rows = np.full((num_frames, *values.shape[1:]), np.nan)
    rows[good] = values
    return rows
