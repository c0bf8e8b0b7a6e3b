"""Frames to evaluate: chosen evenly among many, bad ones named and left out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import check_labels
from dpa2.data.frames import Fault, FrameError, Frames, IntArray
from dpa2.data.system import System
from schemas.base.errors import DataError


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Frames of some systems.

    Attributes:
        systems: Opened without a model's type map.
        positions: Where each stood in the list that was chosen from.
        frames: Frame numbers, system by system.
    """

    systems: list[System]
    positions: list[int]
    frames: list[IntArray]

    @property
    def num_frames(self) -> int:
        """How many frames there are."""
        return sum(map(len, self.frames))

    def num_labelled(self, label: str) -> int:
        """Return how many of the frames have a label."""
        return sum(map(len, self._labelled(label)))

    def thinned(self, label: str, number: int) -> list[IntArray]:
        """Return at most `number` of the frames that have a label, evenly spaced, at least one."""
        labelled = self._labelled(label)
        total = sum(map(len, labelled))
        kept = set(_spaced(total, max(1, number)).tolist())
        ends = np.cumsum([0, *map(len, labelled)])
        return [
            frames[[index + offset in kept for index in range(len(frames))]]
            for frames, offset in zip(labelled, ends.tolist(), strict=False)
        ]

    def elements(self) -> list[str | int]:
        """Return the elements in the systems; the numbers of types where data do not name them."""
        found: dict[str | int, None] = {}
        for system in self.systems:
            names = system.type_map
            for kind in system.type_counts():
                found[kind if names is None else names[kind]] = None
        return list(found)

    def _labelled(self, label: str) -> list[IntArray]:
        return [
            frames if system.has(label) else frames[:0]
            for system, frames in zip(self.systems, self.frames, strict=True)
        ]


def choose_frames(systems: Sequence[System], num_frames: int | None) -> FrameChoice:
    """Choose frames evenly spaced over all systems, in proportion to their length.

    Args:
        systems: Where to choose from; those without frames are left out.
        num_frames: How many, if there are as many; None takes all.

    Raises:
        DataError: If there are no frames, or none with energies or forces.
    """
    if not any(system.num_frames for system in systems):
        raise DataError("the data have no frames", hint="give systems with labelled frames")
    labelled = [system.has("energy") or system.has("force") for system in systems]
    lengths = [s.num_frames if known else 0 for s, known in zip(systems, labelled, strict=True)]
    ends = np.cumsum([0, *lengths])
    total = int(ends[-1])
    if not total:
        raise DataError(
            "the data have neither energies nor forces to compare with",
            hint="add energy.npy or force.npy, as training data have",
        )
    picked = _spaced(total, total if num_frames is None else num_frames)
    frames = [
        picked[(picked >= start) & (picked < end)] - start for start, end in pairwise(ends.tolist())
    ]
    kept = [position for position, numbers in enumerate(frames) if len(numbers)]
    return FrameChoice([systems[i] for i in kept], kept, [frames[i] for i in kept])


def _spaced(total: int, number: int) -> IntArray:
    """Return `number` of 0 ... total - 1, evenly spaced; all of them if there are no more."""
    if number >= total:
        return np.arange(total, dtype=np.int64)
    return ((np.arange(number, dtype=np.int64) * 2 + 1) * total) // (2 * number)


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
