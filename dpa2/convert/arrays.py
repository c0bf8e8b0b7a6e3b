"""Tensors as NumPy arrays and back, bit by bit, for files that other frameworks read."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BFLOAT16 = np.dtype("V2")
"""How bfloat16 appears in NumPy, which has no such type: two opaque bytes, as in HDF5 files."""


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return an array with the tensor's bits; `BFLOAT16` for bfloat16."""
    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(BFLOAT16)
    return np.asarray(values.numpy())


def to_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor with the array's bits and a memory of its own.

    Raises:
        TypeError: If the array holds no numbers.
    """
    array = np.array(array, order="C", copy=True)
    # JAX has a NumPy type of its own for bfloat16, whose name says so.
    if array.dtype == BFLOAT16 or array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def bfloat16_to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return the numbers that an array of `BFLOAT16` stands for."""
    bits = array.view(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32)


def float32_to_bfloat16(array: NDArray[np.float32]) -> NDArray[Any]:
    """Return the array of `BFLOAT16` nearest to these numbers."""
    return to_array(torch.from_numpy(np.ascontiguousarray(array)).to(torch.bfloat16))
