"""What StableHLO programs and SavedModels have in common: XLA compiles them for each shape anew."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.evaluate.lower import LowerFacts, LowerInput

_LEAST_GHOSTS = 64


def fixed_shapes(frame: LowerInput, facts: LowerFacts) -> list[NDArray[Any]]:
    """Return the six arguments of such a program, in few different shapes.

    Compiling takes seconds, and the number of ghosts changes as atoms move. So there are ghosts
    that nobody is near, up to 64 or a quarter more: a simulation compiles once or twice.

    Returns:
        coord (1, M, 3), types (1, M) int32, nlist (1, N, nsel), mapping (1, M), fparam (1, P) and
        aparam (1, N, Q); the latter of no columns where the model takes none.
    """
    num_atoms = len(frame.nlist)
    nobody = _more(len(frame.mapping) - num_atoms)
    return [
        np.pad(frame.coord, ((0, nobody), (0, 0)))[None],
        np.pad(frame.types, (0, nobody), constant_values=-1).astype(np.int32)[None],
        frame.with_slots(facts.nsel)[None],
        np.pad(frame.mapping, (0, nobody))[None],
        np.zeros((1, 0)) if frame.fparam is None else frame.fparam[None],
        np.zeros((1, num_atoms, 0)) if frame.aparam is None else frame.aparam[None],
    ]


def _more(num_ghosts: int) -> int:
    """Return how many ghosts are missing to the next of the few numbers that are used."""
    step = max(_LEAST_GHOSTS, 1 << max(0, num_ghosts.bit_length() - 3))
    return max(1, -(-num_ghosts // step)) * step - num_ghosts
