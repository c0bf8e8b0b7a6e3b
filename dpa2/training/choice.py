"""Which branch a step trains (docs/deepmd-format.md, 6.4)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpa2.data.sampler import Sampler
from schemas.multitask import Branch


@dataclass(frozen=True)
class RunLength:
    """How long a run is, and how it is divided.

    Attributes:
        num_steps: Steps in all.
        probabilities: How often each branch is trained; they add up to 1.
    """

    num_steps: int
    probabilities: dict[str, float]


def run_length(
    branches: Mapping[str, Branch], samplers: Mapping[str, Sampler], num_steps: int | None
) -> RunLength:
    """Return how long to train, each branch how often.

    Passes over the data (`numb_epoch`, `num_epoch_dict`) decide where they are given, `model_prob`
    next; without either, branches count by their number of systems.

    Args:
        branches: The branches.
        samplers: Their training data.
        num_steps: `numb_steps`; None where passes over the data are given.
    """
    weights = {name: _weight(branch, samplers[name]) for name, branch in branches.items()}
    total = sum(weights.values())
    return RunLength(
        num_steps=math.ceil(total) if num_steps is None else int(num_steps),
        probabilities={name: weight / total for name, weight in weights.items()},
    )


def _weight(branch: Branch, sampler: Sampler) -> float:
    if branch.epochs is not None:
        return branch.epochs * sampler.steps_per_epoch
    if branch.probability is not None:
        return branch.probability
    return float(len(sampler.systems))


class BranchChoice:
    """Draws the branch of every step; a stream of random numbers of its own, with a state.

    Args:
        probabilities: Of each branch; they add up to 1.
        seed: None starts anywhere.
    """

    def __init__(self, probabilities: Mapping[str, float], seed: int | None) -> None:
        self.names = list(probabilities)
        self.probabilities = np.array(list(probabilities.values()), dtype=np.float64)
        self._draws = np.random.default_rng(seed)

    def next(self) -> str:
        """Return the branch of the next step."""
        if len(self.names) == 1:
            return self.names[0]
        return self.names[int(self._draws.choice(len(self.names), p=self.probabilities))]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain containers."""
        return dict(self._draws.bit_generator.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._draws.bit_generator.state = dict(state)
