"""The running mean of the parameters (EMA), which often predicts better than the last step's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dpa2.training.optimizer import NumberedParameters
from schemas.errors import CheckpointError


class ParameterAverage:
    """Exponential moving average: mean <- mean + (1 - decay) (parameter - mean) after each step.

    Args:
        parameters: The model's parameters under deepmd-kit's names.
        decay: Close to 1 averages over many steps.
    """

    def __init__(self, parameters: NumberedParameters, decay: float) -> None:
        self.decay = float(decay)
        self._parameters = [(name, p) for name, p in parameters if p is not None]
        self._empty = [name for name, p in parameters if p is None]
        self._order = [name for name, _ in parameters]
        self.means = {name: p.detach().clone() for name, p in self._parameters}
        self.validation_state: dict[str, Any] = {}

    @torch.no_grad()
    def reset(self) -> None:
        """Begin anew at the current parameters."""
        for name, parameter in self._parameters:
            self.means[name].copy_(parameter)

    @torch.no_grad()
    def update(self) -> None:
        """Move the means towards the current parameters."""
        for name, parameter in self._parameters:
            self.means[name].lerp_(parameter, 1.0 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the means into the model for the duration of the block."""
        kept = [parameter.detach().clone() for _, parameter in self._parameters]
        try:
            with torch.no_grad():
                for name, parameter in self._parameters:
                    parameter.copy_(self.means[name])
            yield
        finally:
            with torch.no_grad():
                for (_, parameter), value in zip(self._parameters, kept, strict=True):
                    parameter.copy_(value)

    def section(self) -> dict[str, Any]:
        """Return the `ema` section of a checkpoint; deepmd-kit's empty parameters included."""
        empty: dict[str, Tensor] = dict.fromkeys(self._empty, torch.zeros(0, dtype=torch.float64))
        means = {**self.means, **empty}
        return {
            "decay": self.decay,
            "model": {name: means[name].detach().cpu().clone() for name in self._order},
            "validation_state": self.validation_state,
        }

    @torch.no_grad()
    def load(self, section: Mapping[str, Any]) -> None:
        """Restore the means from a checkpoint; the decay stays that of the input.

        Raises:
            CheckpointError: When the section is of another model.
        """
        stored = section.get("model", {})
        for name, mean in self.means.items():
            if name not in stored or stored[name].shape != mean.shape:
                raise CheckpointError(
                    f"the checkpoint's moving average has no {name} of shape {tuple(mean.shape)}",
                    hint="the model section of the input differs from the checkpoint's",
                )
            mean.copy_(stored[name])
        self.validation_state = dict(section.get("validation_state") or {})
