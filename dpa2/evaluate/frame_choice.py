"""Which labelled frames are looked at where looking at all of them would take too long."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dpa2.data.system import System
from schemas.errors import DataError

IntArray = NDArray[np.int64]


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
