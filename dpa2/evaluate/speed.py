"""How fast models evaluate: the same frame, in turns, so that a busy machine is fair to all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dpa2.data.frames import Frames
from dpa2.data.system import System
from dpa2.evaluate.potential import Potential, predict_frames

_WARM_UP = 2
"""Evaluations before the first that counts: compilers specialise and allocators fill up in them."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall times of one model.

    Attributes:
        num_atoms: Of the frame.
        seconds: Of each evaluation of energy, forces and virial, neighbour search included.
    """

    num_atoms: int
    seconds: list[float]

    @property
    def median(self) -> float:
        """Median, s."""
        return statistics.median(self.seconds)

    @property
    def microseconds_per_atom(self) -> float:
        """Median per atom, µs."""
        return 1e6 * self.median / self.num_atoms

    @property
    def nanoseconds_per_day(self) -> float:
        """Simulated time in a day at a time step of 0.5 fs, with nothing but the forces."""
        return 86400 / self.median * 0.5e-6


def first_frame(system: System) -> Frames:
    """Return the frame of a system that is evaluated."""
    return system.frames(np.array([0]))


def measure(
    models: Mapping[str, Potential],
    frames: Mapping[str, Frames],
    repeats: int,
    progress: Callable[[int], None],
) -> dict[str, Timing]:
    """Evaluate a frame with every model in turns.

    Args:
        models: By name.
        frames: For each of them one frame, with the types of its model.
        repeats: Timed turns.
        progress: Told after each evaluation.
    """

    def once(name: str) -> float:
        start = time.perf_counter()
        predict_frames(models[name], frames[name])
        progress(1)
        return time.perf_counter() - start

    for name in models:
        for _ in range(_WARM_UP):
            once(name)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, taken in seconds.items():
            taken.append(once(name))
    return {name: Timing(frames[name].num_atoms, taken) for name, taken in seconds.items()}


def num_evaluations(num_models: int, repeats: int) -> int:
    """Return how often `measure` evaluates."""
    return num_models * (_WARM_UP + repeats)
