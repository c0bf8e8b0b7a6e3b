"""Frames in cells as atoms with images and their nearest neighbours, in TorchScript.

docs/deepmd-format.md, 3.1.

Images and the comparison of all pairs serve callers without a neighbour search of their own:
correct for every cell, fast enough for a few thousand atoms. SavedModels do the same with
TensorFlow's operators (`dpa2.jax.savedmodel`): neither kind of program can hold the other's.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

# Axes:  F frames   N atoms per frame   M atoms and ghosts   W slots given   K slots kept
#        X = x, y, z


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


# Axes:  F frames   N atoms per frame   M atoms and images   G images   S shifts   K neighbour slots
#        X = x, y, z


# Constants reach TorchScript as default arguments. Distances held at once: 32 MB.
PAIRS_AT_ONCE = 1 << 22
# Images a hair outside the cutoff do no harm; a missing one does.
MARGIN = 1e-6


class Extended(NamedTuple):
    """Atoms, then their images.

    Attributes:
        coord: (F, M, 3) Å; the first N are the atoms, wrapped into the cell.
        types: (F, M) int64; -1 where there is no atom.
        mapping: (F, M) int64, the atom of which each is an image.
    """

    coord: Tensor
    types: Tensor
    mapping: Tensor


def extend(coord_FNX: Tensor, types_FN: Tensor, box_FXX: Optional[Tensor], rcut: float) -> Extended:
    """Wrap atoms into their cells and add every image within `rcut` of the cell.

    Args:
        coord_FNX: (F, N, 3) Å.
        types_FN: (F, N), -1 where there is no atom.
        box_FXX: (F, 3, 3) Å, rows are vectors, of either handedness; None: not periodic.
        rcut: Å.
    """
    F, N = types_FN.shape[0], types_FN.shape[1]
    own_N = torch.arange(N, device=types_FN.device)
    if box_FXX is None:
        return Extended(coord_FNX, types_FN, own_N.unsqueeze(0).expand(F, N))
    coords: List[Tensor] = []
    types: List[Tensor] = []
    mappings: List[Tensor] = []
    longest = N
    for f in range(F):
        wrapped_NX, images_GX, parents_G = images(coord_FNX[f], types_FN[f], box_FXX[f], rcut)
        coords.append(torch.cat([wrapped_NX, images_GX]))
        types.append(torch.cat([types_FN[f], types_FN[f].index_select(0, parents_G)]))
        mappings.append(torch.cat([own_N, parents_G]))
        longest = max(longest, coords[f].shape[0])
    for f in range(F):
        lacking = longest - types[f].shape[0]
        coords[f] = torch.nn.functional.pad(coords[f], [0, 0, 0, lacking])
        types[f] = torch.nn.functional.pad(types[f], [0, lacking], value=-1.0)
        mappings[f] = torch.nn.functional.pad(mappings[f], [0, lacking])
    return Extended(torch.stack(coords), torch.stack(types), torch.stack(mappings))


def images(
    coord_NX: Tensor, types_N: Tensor, box_XX: Tensor, rcut: float, margin: float = MARGIN
) -> Tuple[Tensor, Tensor, Tensor]:
    """Return (wrapped atoms (N, 3), images near the cell (G, 3), their atoms (G,)) of a frame."""
    s_NX = coord_NX @ torch.linalg.inv(box_XX)
    s_NX = s_NX - torch.floor(s_NX)
    wrapped_NX = s_NX @ box_XX
    areas_X = torch.stack(
        [
            torch.linalg.vector_norm(torch.linalg.cross(box_XX[1], box_XX[2])),
            torch.linalg.vector_norm(torch.linalg.cross(box_XX[2], box_XX[0])),
            torch.linalg.vector_norm(torch.linalg.cross(box_XX[0], box_XX[1])),
        ]
    )
    # The cutoff in units of the distances between opposite faces.
    reach_X = rcut * areas_X / torch.abs(torch.linalg.det(box_XX)) + margin
    shifts_SX = shifts(torch.ceil(reach_X).to(torch.int64)).to(coord_NX.dtype)
    # A shift at a time: the table of all shifts of all atoms may be large in small cells.
    found: List[Tensor] = [wrapped_NX[:0]]
    parents: List[Tensor] = [torch.zeros([0], dtype=torch.int64, device=coord_NX.device)]
    for k in range(shifts_SX.shape[0]):
        t_NX = s_NX + shifts_SX[k]
        near_N = ((t_NX >= -reach_X) & (t_NX <= 1.0 + reach_X)).all(dim=-1) & (types_N >= 0)
        parents_G = torch.nonzero(near_N).squeeze(-1)
        parents.append(parents_G)
        found.append(wrapped_NX.index_select(0, parents_G) + shifts_SX[k] @ box_XX)
    return wrapped_NX, torch.cat(found), torch.cat(parents)


def shifts(reach_X: Tensor) -> Tensor:
    """Return all integer shifts within `reach_X` (S, 3) but (0, 0, 0), the shortest first."""
    host = reach_X.cpu()
    ranges: List[Tensor] = []
    for axis in range(3):
        n = int(host[axis].item())
        ranges.append(torch.arange(-n, n + 1, device=reach_X.device))
    grid_SX = torch.cartesian_prod(ranges[0], ranges[1], ranges[2])
    length_S = (grid_SX * grid_SX).sum(dim=-1)
    return grid_SX.index_select(0, torch.argsort(length_S))[1:]


def all_pairs(
    system: Extended, num_atoms: int, rcut: float, nsel: int, pairs_at_once: int = PAIRS_AT_ONCE
) -> Tensor:
    """Return the nearest neighbours within `rcut` (F, N, K), -1 in empty slots, K <= `nsel`."""
    F, M = system.types.shape[0], system.types.shape[1]
    K = min(nsel, M)
    chunk = max(1, pairs_at_once // max(M, 1))
    frames: List[Tensor] = []
    for f in range(F):
        coord_MX = system.coord[f]
        nobody_M = system.types[f] < 0
        rows: List[Tensor] = [torch.zeros([0, K], dtype=torch.int64, device=coord_MX.device)]
        for start in range(0, num_atoms, chunk):
            stop = min(num_atoms, start + chunk)
            r_CM = torch.cdist(
                coord_MX[start:stop], coord_MX, compute_mode="donot_use_mm_for_euclid_dist"
            )
            r_CM = r_CM.masked_fill(nobody_M.unsqueeze(0), float("inf"))
            r_CM = r_CM.masked_fill(nobody_M[start:stop].unsqueeze(1), float("inf"))
            center_C = torch.arange(start, stop, device=r_CM.device)
            r_CM = r_CM.scatter(1, center_C.unsqueeze(1), float("inf"))
            r_CK, index_CK = torch.topk(r_CM, K, dim=1, largest=False)
            rows.append(index_CK.masked_fill(r_CK > rcut, -1))
        frames.append(torch.cat(rows))
    return torch.stack(frames)
