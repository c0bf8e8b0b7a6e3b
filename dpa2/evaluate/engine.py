"""What evaluates: the interface that all kinds of model files are brought to."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.evaluate.evaluation import Evaluation
from dpa2.evaluate.structures import ModelInputs, Structures
from dpa2.model.neighbors import PairFinder


class Engine(ABC):
    """A model that can be evaluated.

    Args:
        inputs: What the model takes.
        rcut: Cutoff of the neighbour search, Å.
        device: Where it computes.
        model_params: The `model` section that it was trained with.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        rcut: float,
        device: torch.device,
        model_params: dict[str, Any],
    ) -> None:
        self.inputs = inputs
        self.rcut = rcut
        self.device = device
        self.model_params = model_params

    @abstractmethod
    def evaluate(
        self,
        structures: Structures,
        *,
        atomic: bool,
        descriptor: bool,
        find_pairs: PairFinder | None = None,
    ) -> tuple[Evaluation, int]:
        """Evaluate some frames; also return the number of neighbour pairs beyond `nsel`.

        Args:
            structures: Frames of equal numbers of atoms.
            atomic: Also virials of atoms, where the model has them.
            descriptor: Also the descriptor.
            find_pairs: What searches neighbours; None: a new search each time.

        Raises:
            CheckpointError: If the model does not give its descriptor.
        """

    def compile(self, backend: str) -> str | None:
        """Compile the network; return why not, or None where it was done."""
        del backend
        return "frozen models are compiled already; load the checkpoint (.pt) instead"

    def tensor(self, array: NDArray[Any] | None, *shape: int) -> Tensor | None:
        """Return an array on the model's device, in another shape where one is given."""
        if array is None:
            return None
        return torch.tensor(array.reshape(shape or array.shape), device=self.device)


def array_of(tensor: Tensor, *shape: int) -> NDArray[np.float64]:
    """Return a tensor as float64 on the CPU, in another shape where one is given."""
    array = tensor.detach().to("cpu", torch.float64).numpy()
    return np.asarray(array.reshape(shape or array.shape))
