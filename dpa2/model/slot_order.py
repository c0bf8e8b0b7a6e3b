"""The order of neighbours at equal distance, where it matters.

In cells smaller than the cutoff an atom sees images of one atom at exactly one distance. Their
order is arbitrary, and matters only where neighbour slots have statistics of their own.
deepmd-kit's order is that of torch's unstable sorts of particular arrays, one for its energies and
another for its descriptors; the same sorts of the same arrays give the same orders.
"""

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# centre, neighbour, displacement (E, 3) Å, distance Å
Pairs = tuple[Integers, Integers, Floats, Floats]


def energy_order(pairs: Pairs, num_atoms: int) -> Pairs:
    """Sort pairs by centre and distance as deepmd-kit does where it evaluates energies."""
    center, _, _, distance = pairs
    counts = np.bincount(center, minlength=num_atoms)
    grouped = np.argsort(center, kind="stable")
    starts = np.cumsum(counts) - counts
    table = torch.full((num_atoms, int(counts.max(initial=0))), -1, dtype=torch.int64)
    rows = center[grouped]
    table[rows, np.arange(len(grouped)) - starts[rows]] = torch.from_numpy(grouped)
    length = torch.from_numpy(distance)[table.clamp_min(0)].masked_fill(table < 0, torch.inf)
    table = table.gather(1, torch.argsort(length, dim=-1))
    order = table[table >= 0].numpy()
    i, j, disp, d = (array[order] for array in pairs)
    return i, j, disp, d


def images_per_side(boxes: Floats, rcut: float) -> Integers:
    """Return how many images each direction needs, the most of all cells (F, 3, 3)."""
    volumes = np.abs(np.linalg.det(boxes))
    areas = np.linalg.norm(
        np.stack([np.cross(boxes[:, (a + 1) % 3], boxes[:, (a + 2) % 3]) for a in range(3)], 1),
        axis=-1,
    )
    heights = volumes[:, None] / areas
    return np.asarray(np.ceil(rcut / heights).max(axis=0).astype(np.int64))


def descriptor_order(coord: Floats, box: Floats, rcut: float, nsel: int, images: Integers) -> Pairs:
    """Return the pairs within `rcut`, ordered as where deepmd-kit evaluates descriptors.

    Args:
        coord: (N, 3) Å.
        box: (3, 3) Å.
        rcut: Å.
        nsel: Neighbours beyond it are left out.
        images: Of the batch, from `images_per_side`.
    """
    cell = torch.tensor(box)
    scaled = torch.matmul(torch.tensor(coord), torch.linalg.inv(cell))
    wrapped = torch.matmul(torch.remainder(scaled, 1.0), cell)
    ranges = [torch.arange(-int(n), int(n) + 1, dtype=torch.float64) for n in images]
    shifts = torch.cartesian_prod(*ranges)
    shifts = shifts[torch.argsort(torch.linalg.norm(shifts, dim=-1))]
    everywhere = wrapped[None] + torch.einsum("sd,dk->sk", shifts, cell)[:, None]
    diff = everywhere.reshape(1, -1, 3) - wrapped[:, None]  # (N, images * N, 3)
    length = torch.linalg.norm(diff, dim=-1)
    num_atoms = len(coord)
    diagonal = torch.arange(num_atoms)
    length[diagonal, diagonal] -= 1.0
    length, found = torch.topk(length, min(nsel + 1, length.shape[1]), largest=False)
    length, found = length[:, 1:], found[:, 1:]
    inside = length <= rcut
    i = diagonal.unsqueeze(1).expand_as(found)[inside]
    return (
        i.numpy(),
        (found[inside] % num_atoms).numpy(),
        diff[i, found[inside]].numpy(),
        length[inside].numpy(),
    )
