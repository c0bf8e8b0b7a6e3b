"""Bring a caller's neighbour list into shape, in TorchScript.

docs/deepmd-format.md, 3.1, item 6.
"""

# Axes:  F frames   N atoms per frame   M atoms and ghosts   W slots given   K slots kept
#        X = x, y, z

from typing import NamedTuple

import torch
from torch import Tensor


class NearestNeighbors(NamedTuple):
    """The neighbours of every centre, nearest first; empty slots at the end.

    Attributes:
        indices: (F, N, K) int64 among the frame's M atoms and ghosts; -1 in empty slots.
        disp: (F, N, K, 3) Å, neighbour minus centre; of no meaning in empty slots.
        distance: (F, N, K) Å; infinite in empty slots.
    """

    indices: Tensor
    disp: Tensor
    distance: Tensor


def nearest_neighbors(
    coord_FMX: Tensor, types_FM: Tensor, nlist_FNW: Tensor, rcut: float, nsel: int
) -> NearestNeighbors:
    """Sort by distance, drop what is beyond `rcut` or no atom, and keep the `nsel` nearest.

    Args:
        coord_FMX: (F, M, 3) Å; the first N atoms of a frame are the centres.
        types_FM: (F, M); -1 where there is no atom.
        nlist_FNW: (F, N, W) in any order, perhaps beyond `rcut`; -1 in empty slots.
        rcut: Å.
        nsel: Capacity.
    """
    F, N, W = nlist_FNW.shape[0], nlist_FNW.shape[1], nlist_FNW.shape[2]
    M = types_FM.shape[1]
    first_F = torch.arange(F, device=nlist_FNW.device) * M
    row_E = (nlist_FNW.clamp(min=0) + first_F.view(F, 1, 1)).flatten()
    neighbor_FNWX = coord_FMX.reshape(F * M, 3).index_select(0, row_E).view(F, N, W, 3)
    disp_FNWX = neighbor_FNWX - coord_FMX[:, :N].unsqueeze(2)
    r_FNW = torch.linalg.vector_norm(disp_FNWX, dim=-1)
    neighbor_types_FNW = types_FM.flatten().index_select(0, row_E).view(F, N, W)
    empty_FNW = (nlist_FNW < 0) | (r_FNW > rcut)
    empty_FNW = empty_FNW | (neighbor_types_FNW < 0) | (types_FM[:, :N] < 0).unsqueeze(2)
    r_FNW = r_FNW.masked_fill(empty_FNW, float("inf"))
    r_FNK, order_FNK = torch.sort(r_FNW, dim=-1)
    K = min(nsel, W)
    r_FNK, order_FNK = r_FNK[..., :K], order_FNK[..., :K]
    index_FNK = torch.gather(nlist_FNW, 2, order_FNK).masked_fill(torch.isinf(r_FNK), -1)
    disp_FNKX = torch.gather(disp_FNWX, 2, order_FNK.unsqueeze(-1).expand(F, N, K, 3))
    return NearestNeighbors(index_FNK, disp_FNKX, r_FNK)
