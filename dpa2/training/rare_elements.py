"""Frames of elements that a random choice of frames misses."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from dpa2.data.frames import Frames, IntArray
from dpa2.data.system import System

_FRAMES_AT_ONCE = 4096


def frames_of_missing_types(
    systems: Sequence[System], drawn: Sequence[Frames], at_most: Sequence[int]
) -> Iterator[tuple[int, IntArray]]:
    """Yield, for systems that have types which no drawn frame has, frames that have these.

    Only systems whose types differ from frame to frame can have them.

    Args:
        systems: Where frames were drawn.
        drawn: What was drawn.
        at_most: How many frames of each system.

    Yields:
        Position of the system, and numbers of its frames.
    """
    seen = {int(kind) for frames in drawn for kind in np.unique(frames.atom_types)}
    for position, system in enumerate(systems):
        missing = [kind for kind in system.type_counts() if kind not in seen]
        if not missing:
            continue
        chosen = _spread(system, missing, at_most[position])
        if len(chosen):
            seen |= {int(kind) for kind in np.unique(system.atom_types(chosen))}
            yield position, chosen


def _spread(system: System, types: Collection[int], at_most: int) -> IntArray:
    """Return frames with any of some types: of each type as many as of the others, in order."""
    have: dict[int, list[int]] = {kind: [] for kind in types}
    for start in range(0, system.num_frames, _FRAMES_AT_ONCE):
        numbers = np.arange(start, min(start + _FRAMES_AT_ONCE, system.num_frames))
        kinds = system.atom_types(numbers)
        for kind in have:
            have[kind] += numbers[(kinds == kind).any(axis=1)].tolist()
    share = max(1, at_most // len(have))
    return np.array(sorted({f for frames in have.values() for f in frames[:share]}), dtype=np.int64)
