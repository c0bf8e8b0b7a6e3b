"""A block of centre atoms with their neighbours, the unit of work that stays in the cache."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

# Axes:  N centre atoms of this block   K neighbour slots   X = x, y, z


class NeighborBlock(NamedTuple):
    """Consecutive centre atoms and their neighbours, nearest first.

    Slots beyond an atom's count hold a displacement longer than every cutoff.

    Attributes:
        start: Index of the first centre atom.
        stop: One past the last.
        disp: (N, K, 3) Å, neighbour minus centre; the leaf that forces are derived from.
        neighbors: (N, K) int64, row of the neighbour in the table of atomic features.
        types: (N,) int64, type of each centre.
        neighbor_types: (N, K) int64, type of each neighbour; of `pad_types` in empty slots.
        pad_types: (N,) int64, the type that deepmd-kit looks up for empty slots
            (docs/deepmd-format.md, 3.7).
        present: (N, K) bool, whether a slot holds a neighbour.
        num_repinit: (N,) int64, neighbours in the repinit list.
        num_three_body: (N,) int64, length of the prefix that is the three-body list.
        num_repformer: (N,) int64, length of the prefix that is the repformer list.
        width_repinit: Slots that repinit looks at; all wider ones are empty.
        width_three_body: Idem, three-body.
        width_repformer: Idem, repformer; leaves one empty slot where attention needs one.
    """

    start: int
    stop: int
    disp: Tensor
    neighbors: Tensor
    types: Tensor
    neighbor_types: Tensor
    pad_types: Tensor
    present: Tensor
    num_repinit: Tensor
    num_three_body: Tensor
    num_repformer: Tensor
    width_repinit: int
    width_three_body: int
    width_repformer: int


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
