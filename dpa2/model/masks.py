"""Which slots of a block take part: filled ones, minus excluded pairs of types."""

from typing import Optional

import torch
from torch import Tensor


def filled(present_NK: Tensor, lengths_N: Tensor, width: int) -> Tensor:
    """Return (N, width) bool: whether a slot is filled in the list of length `lengths_N`."""
    slots_K = torch.arange(width, device=lengths_N.device)
    return present_NK[:, :width] & (slots_K.unsqueeze(0) < lengths_N.unsqueeze(1))


def pair_table(num_types: int, exclude_types: list[list[int]]) -> Optional[Tensor]:
    """Return (T, T) bool, False where a pair of types is excluded; None if nothing is."""
    if not exclude_types:
        return None
    keep_TT = torch.ones(num_types, num_types, dtype=torch.bool)
    for a, b in exclude_types:
        if 0 <= a < num_types and 0 <= b < num_types:
            keep_TT[a, b] = False
            keep_TT[b, a] = False
    return keep_TT


def kept(keep_TT: Tensor, types_N: Tensor, neighbor_types_NK: Tensor) -> Tensor:
    """Return (N, K) bool: whether the pair of types of each slot is not excluded."""
    num_types = keep_TT.shape[0]
    index_NK = types_N.unsqueeze(1) * num_types + neighbor_types_NK
    return keep_TT.flatten()[index_NK]
