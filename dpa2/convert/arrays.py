"""Tensors as NumPy arrays and back, for files that other frameworks read."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BFLOAT16 = np.dtype("V2")  # NumPy has no such type; in HDF5 files it is two opaque bytes


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return an array of the same numbers.

    bfloat16 becomes float32, which holds its numbers exactly: deepmd-kit's readers turn that back
    into bfloat16, while they cannot read the opaque bytes that they themselves write.
    """
    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        values = values.to(torch.float32)
    return np.asarray(values.numpy())


def to_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor of the same numbers and type, with a memory of its own.

    Raises:
        TypeError: If the array holds no numbers.
    """
    array = np.array(array, order="C", copy=True)
    # JAX has a NumPy type of its own for bfloat16, whose name says so.
    if array.dtype == _BFLOAT16 or array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
