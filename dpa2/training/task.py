"""A task: one model with its data and its loss. A training draws one of its tasks for each step."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dpa2.model.energy import EnergyModel
from dpa2.training.batch import Batch, BatchBuilder, BatchStream
from dpa2.training.loss import EnergyLoss, LossResult

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Task:
    """One branch of the training.

    Attributes:
        name: The branch; `Default` for the only one.
        model: The network.
        loss: What is minimised.
        stream: Training batches.
        validation: Validation batches, or None.
        num_validation_batches: How many of them make one displayed error.
    """

    name: str
    model: EnergyModel
    loss: EnergyLoss
    stream: BatchStream
    validation: BatchStream | None = None
    num_validation_batches: int = 1

    @property
    def builder(self) -> BatchBuilder:
        """What makes batches for this model and loss."""
        return self.stream.builder

    def compare(self, batch: Batch, learning_rate: float, *, create_graph: bool) -> LossResult:
        """Return the loss of a batch."""
        prediction = batch.predict(self.model, create_graph=create_graph)
        return self.loss(prediction, batch.labels, batch.mask, learning_rate)

    def look(self, learning_rate: float) -> Metrics:
        """Return the errors on the next training batch, which is used up by that."""
        result = self.compare(self.stream.next(), learning_rate, create_graph=False)
        return as_numbers(result.metrics)

    def validate(self, learning_rate: float) -> Metrics:
        """Return the errors on the next validation batches, weighted by their real atoms."""
        if self.validation is None:
            return {}
        sums: dict[str, float] = {}
        num_atoms = 0
        for _ in range(self.num_validation_batches):
            batch = self.validation.next()
            shown = as_numbers(self.compare(batch, learning_rate, create_graph=False).metrics)
            weight = int(batch.frames.real_atoms.sum())
            num_atoms += weight
            for name, value in shown.items():
                sums[name] = sums.get(name, 0.0) + value * weight
        return {name: value / num_atoms for name, value in sums.items()}


def as_numbers(metrics: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
    """Return displayed errors as floats, in one transfer from the device."""
    tensors = {name: value for name, value in metrics.items() if isinstance(value, torch.Tensor)}
    numbers = torch.stack(list(tensors.values())).tolist() if tensors else []
    found = dict(zip(tensors, numbers, strict=True))
    return {name: found[name] if name in found else float(value) for name, value in metrics.items()}
