"""The weights of a torch model as numpy arrays for this package; the one file here with torch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.convert.deepmd import to_deepmd_state
from dpa2.jax.weights import Weights, read_weights
from dpa2.model.energy import EnergyModel
from schemas.errors import ConversionError


def weights_of(model: EnergyModel) -> Weights:
    """Return the numbers of a model in its own precision.

    Raises:
        ConversionError: If a network computes in half precision, which these formats do not hold.
    """
    tensors = {name: _array(x) for name, x in to_deepmd_state(model).items()}
    return read_weights(tensors, _array(model.descriptor.type_embedding.rows_TC))


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.dtype in (torch.bfloat16, torch.float16):
        raise ConversionError(
            f"the model computes in {str(tensor.dtype).removeprefix('torch.')}, which cannot be "
            "exported to JAX",
            hint="set `precision` to float32 or float64 and train again",
        )
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
