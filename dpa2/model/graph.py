"""Frames as blocks of atoms with their neighbours, ready for the network."""

# Axes:  F frames   N atoms per frame (padded)   A real atoms of all frames   E slots of all blocks
#        K neighbour slots   X = x, y, z

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.data.frames import each_frame
from dpa2.model.blocks import BlockPlan, NeighborBlock, Slots, pair_indices
from dpa2.model.cutoffs import Cutoffs
from dpa2.model.neighbors import (
    Neighbors,
    PairFinder,
    images_per_side,
    pairs_within,
    search,
)


@dataclass(frozen=True, slots=True)
class Graph:
    """All atoms of a batch of frames, in processing order, cut into blocks.

    Attributes:
        num_frames: F.
        num_atoms: N, atoms per frame, padding included.
        blocks: Cover the atoms in order; their `disp` are leaves that require gradients.
        frame: (A,) frame of each atom.
        slot: (A,) frame * N + position of each atom in the caller's arrays.
        types: (A,).
        coord: (A, 3) float64 Å, as given.
        num_dropped: Pairs within the cutoff that `nsel` cut off.
    """

    num_frames: int
    num_atoms: int
    blocks: list[NeighborBlock]
    frame: Tensor
    slot: Tensor
    types: Tensor
    coord: Tensor
    num_dropped: int

    def pair_indices(self) -> tuple[Tensor, Tensor]:
        """Return (centre, neighbour) atom of every slot of every block, (E,) each."""
        everyone_A = torch.arange(len(self.types), device=self.types.device)
        return pair_indices(self.blocks, everyone_A)

    def padded(self, values_A: Tensor) -> Tensor:
        """Return values of real atoms (A, ...) as (F, N, ...), zeros elsewhere."""
        shape = (self.num_frames * self.num_atoms, *values_A.shape[1:])
        flat = values_A.new_zeros(shape).index_add(0, self.slot, values_A)
        return flat.view(self.num_frames, self.num_atoms, *values_A.shape[1:])


def build_graph(
    coord: NDArray[np.float64],
    box: NDArray[np.float64] | None,
    atom_types: NDArray[np.int64],
    cutoffs: Cutoffs,
    plan: BlockPlan,
    device: torch.device,
    *,
    for_descriptor: bool = False,
    find_pairs: PairFinder = pairs_within,
) -> Graph:
    """Search neighbours and lay out blocks on `device`; frames as in `EnergyModel.graph`.

    Raises:
        FrameError: If frames have atoms at one place, a position that is not finite or a cell
            without volume.
    """
    num_frames, num_atoms = atom_types.shape
    real = atom_types >= 0
    images = images_per_side(box, cutoffs.rcut) if for_descriptor and box is not None else None
    placed = [np.asarray(coord[f][real[f]], dtype=np.float64) for f in range(num_frames)]

    def neighbors_of(f: int) -> Neighbors:
        cell = None if box is None else box[f]
        return search(placed[f], cell, atom_types[f][real[f]], cutoffs, images, find_pairs)

    merged = _merge(each_frame(num_frames, neighbors_of))
    types = atom_types[real]
    slot = np.flatnonzero(real.reshape(-1))
    frame = slot // max(num_atoms, 1)
    # deepmd-kit's empty slots look up the first atom of their frame (docs/deepmd-format.md, 3.7);
    # padding counts as 0
    pad_types = np.maximum(atom_types[:, 0], 0)[frame] if num_atoms else types
    order = np.argsort(merged.num_repformer, kind="stable")
    slots = _slots(merged, order, types, pad_types, cutoffs, plan)
    return Graph(
        num_frames=num_frames,
        num_atoms=num_atoms,
        blocks=plan(Slots(*(part.to(device) for part in slots))),
        frame=torch.from_numpy(frame[order]).to(device),
        slot=torch.from_numpy(slot[order]).to(device),
        types=torch.from_numpy(types[order]).to(device),
        coord=torch.from_numpy(np.concatenate(placed)[order]).to(device),
        num_dropped=merged.num_dropped,
    )


def _merge(found: list[Neighbors]) -> Neighbors:
    """Join the lists of all frames, atoms numbered through."""
    offsets = np.cumsum([0, *(len(n.num_repinit) for n in found)])
    return Neighbors(
        center=np.concatenate([n.center + o for n, o in zip(found, offsets, strict=False)]),
        neighbor=np.concatenate([n.neighbor + o for n, o in zip(found, offsets, strict=False)]),
        slot=np.concatenate([n.slot for n in found]),
        disp=np.concatenate([n.disp for n in found]),
        num_repinit=np.concatenate([n.num_repinit for n in found]),
        num_three_body=np.concatenate([n.num_three_body for n in found]),
        num_repformer=np.concatenate([n.num_repformer for n in found]),
        num_dropped=sum(n.num_dropped for n in found),
    )


def _slots(
    pairs: Neighbors,
    order: NDArray[np.int64],
    types: NDArray[np.int64],
    pad_types: NDArray[np.int64],
    cutoffs: Cutoffs,
    plan: BlockPlan,
) -> Slots:
    """Return the lists as padded arrays (A, K), atoms in the order `order` of processing."""
    num_atoms = len(order)
    place = np.empty(num_atoms, dtype=np.int64)
    place[order] = np.arange(num_atoms)
    row, column = place[pairs.center], pairs.slot
    used = np.zeros(num_atoms, dtype=np.int64)
    np.maximum.at(used, row, column + 1)
    lengths = torch.from_numpy(
        np.stack([used, pairs.num_three_body[order], pairs.num_repformer[order]])
    )
    width = max(plan.widths(lengths, 0, num_atoms))
    disp = np.zeros((num_atoms, width, 3))
    disp[..., 0] = cutoffs.far
    disp[row, column] = pairs.disp
    neighbors = np.zeros((num_atoms, width), dtype=np.int64)
    neighbors[row, column] = place[pairs.neighbor]
    neighbor_types = np.repeat(pad_types[order][:, None], width, axis=1)
    neighbor_types[row, column] = types[pairs.neighbor]
    present = np.zeros((num_atoms, width), dtype=np.bool_)
    present[row, column] = True

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    return Slots(
        tensor(disp),
        tensor(neighbors),
        tensor(types[order]),
        tensor(neighbor_types),
        tensor(pad_types[order]),
        tensor(present),
        lengths,
    )
