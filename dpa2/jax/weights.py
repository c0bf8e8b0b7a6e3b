"""Weights of a model for JAX: a tree of arrays named like the modules of the torch network."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.formats.weights import to_deepmd_state
from dpa2.model.energy import EnergyModel
from schemas.base.errors import ConversionError
from schemas.input.weights import weights

# Numpy's while they are read, jax's while they compute.
Array = jax.Array


class Part:
    """Weights of a part of the network: attributes are arrays and further parts.

    Args:
        arrays: By the place below this part, such as `embedding.network.first.weight`
            (`schemas.input.weights.Weight.place`).
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = dict(arrays)

    def __getattr__(self, name: str) -> Any:
        """Return what has that name; AttributeError without."""
        found = self.get(name)
        if found is None:
            raise AttributeError(f"the model has no weights called {name}")
        return found

    def get(self, name: str) -> Any:
        """Return what has that name, or None."""
        if name in self.arrays:
            return self.arrays[name]
        below = {
            place.removeprefix(f"{name}."): array
            for place, array in self.arrays.items()
            if place.startswith(f"{name}.")
        }
        return Part(below) if below else None

    def numbered(self) -> list[Any]:
        """Return what is called 0, 1, ..., in this order."""
        return [self.get(str(k)) for k in range(len({p.partition(".")[0] for p in self.arrays}))]

    def stack(self) -> list["Part"]:
        """Return the layers of an embedding net."""
        rest = self.get("rest")
        return [self.first, *([] if rest is None else rest.numbered())]


def weights_of(model: EnergyModel) -> dict[str, NDArray[Any]]:
    """Return the numbers of a model by place, in its own precision and deepmd-kit's shapes.

    Raises:
        ConversionError: If a network computes in half precision, which these formats do not hold.
    """
    state = to_deepmd_state(model)
    tensors = {
        w.place: state[w.name] for w in weights(model.config) if not (w.is_empty or w.is_twin)
    }
    # What the type embedding sees, which deepmd-kit does not store.
    tensors["descriptor.type_embedding.rows_TC"] = model.descriptor.type_embedding.rows_TC
    return {place: _array(tensor) for place, tensor in tensors.items()}


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.dtype in (torch.bfloat16, torch.float16):
        raise ConversionError(
            f"the model computes in {str(tensor.dtype).removeprefix('torch.')}, which cannot be "
            "exported to JAX",
            hint="set `precision` to float32 or float64 and train again",
        )
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
