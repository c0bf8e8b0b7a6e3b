"""A block of centre atoms with their neighbours: the unit of work that stays in the cache."""

# Axes:  N centre atoms of this block   K neighbour slots   X = x, y, z

from typing import NamedTuple

from torch import Tensor


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
