"""From a frame in a cell to extended atoms and their nearest neighbours in TorchScript.

docs/deepmd-format.md, 3.1.

This serves callers without a neighbour search of their own. All pairs are compared, a few centres
at a time: correct for every cell, fast enough for a few thousand atoms.
"""

# Axes:  F frames   N atoms per frame   M atoms and images   G images   S shifts   K neighbour slots
#        X = x, y, z

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

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
