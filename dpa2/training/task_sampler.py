"""How long a run is and which branch each of its steps trains (docs/deepmd-format.md, 6.4)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dpa2.data.sampler import Sampler
from schemas.input.root import Branch


def run_length(
    branches: Mapping[str, Branch], samplers: Mapping[str, Sampler], num_steps: int | None
) -> tuple[int, dict[str, float]]:
    """Return the steps of a run, and how often each branch is trained; that adds up to 1.

    Passes over the data (`numb_epoch`, `num_epoch_dict`) decide where they are given, `model_prob`
    next; without either, branches count by their number of systems.

    Args:
        branches: The branches.
        samplers: Their training data.
        num_steps: `numb_steps`; None where passes over the data are given.
    """
    weights = {name: _weight(branch, samplers[name]) for name, branch in branches.items()}
    total = sum(weights.values())
    length = math.ceil(total) if num_steps is None else int(num_steps)
    return length, {name: weight / total for name, weight in weights.items()}


def _weight(branch: Branch, sampler: Sampler) -> float:
    if branch.epochs is not None:
        return branch.epochs * sampler.steps_per_epoch
    if branch.probability is not None:
        return branch.probability
    return float(len(sampler.systems))


class TaskSampler:
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
