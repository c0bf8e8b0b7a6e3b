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
from dpa2.model.blocks import NeighborBlock
from dpa2.model.neighbors import (
    Cutoffs,
    Neighbors,
    PairFinder,
    images_per_side,
    pairs_within,
    search,
)

# Elements of a block's largest tensor. On a CPU small enough to stay in a core's cache between
# operators; a GPU has no such cache and wants few, large kernels that still fit its memory.
BLOCK_ELEMENTS = 1 << 18
BLOCK_ELEMENTS_ACCELERATOR = 1 << 25


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """How a model wants atoms cut into blocks.

    Attributes:
        pair_channels: Values per atom and neighbour of the widest pair tensor.
        square_channels: Values per atom and pair of neighbours of the widest attention tensor.
        needs_empty_slot: The repformer block keeps one empty slot (smooth attention).
        all_repinit_slots: Repinit needs every empty slot (a mean that differs between slots).
        all_three_body_slots: The three-body part needs every empty slot (a directional mean).
        max_atoms: Upper bound of atoms per block; 0: none.
    """

    pair_channels: int
    square_channels: int
    needs_empty_slot: bool
    all_repinit_slots: bool
    all_three_body_slots: bool
    max_atoms: int = 0


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
        centers = []
        neighbors = []
        for block in self.blocks:
            atoms = torch.arange(block.start, block.stop, device=block.neighbors.device)
            centers.append(atoms.repeat_interleave(block.neighbors.shape[1]))
            neighbors.append(block.neighbors.flatten())
        return torch.cat(centers), torch.cat(neighbors)


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
    """Search neighbours and lay out blocks.

    Args:
        coord: (F, N, 3) Å.
        box: (F, 3, 3) Å or None.
        atom_types: (F, N), -1 is padding.
        cutoffs: Radii and capacities of the lists.
        plan: How to cut.
        device: Where the tensors go.
        for_descriptor: Order neighbours at equal distance as deepmd-kit's descriptors do.
        find_pairs: What searches the pairs of a frame.

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
    budget = BLOCK_ELEMENTS if device.type == "cpu" else BLOCK_ELEMENTS_ACCELERATOR
    layout = _Layout(merged, order, types, pad_types, cutoffs, plan, budget)
    return Graph(
        num_frames=num_frames,
        num_atoms=num_atoms,
        blocks=layout.blocks(device),
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


class _Layout:
    """Padded arrays (A, K) in processing order, and how they are cut into blocks."""

    def __init__(
        self,
        pairs: Neighbors,
        order: NDArray[np.int64],
        types: NDArray[np.int64],
        pad_types: NDArray[np.int64],
        cutoffs: Cutoffs,
        plan: BlockPlan,
        budget: int,
    ) -> None:
        self.budget = budget
        self.cutoffs = cutoffs
        self.plan = plan
        num_atoms = len(order)
        place = np.empty(num_atoms, dtype=np.int64)
        place[order] = np.arange(num_atoms)
        self.num_repinit = pairs.num_repinit[order]
        self.num_three_body = pairs.num_three_body[order]
        self.num_repformer = pairs.num_repformer[order]
        self.types = types[order]
        self.pad_types = pad_types[order]
        self.used = np.zeros(num_atoms, dtype=np.int64)
        row, column = place[pairs.center], pairs.slot
        np.maximum.at(self.used, row, column + 1)
        width = self._width(0, num_atoms) if num_atoms else 1
        # Longer than every cutoff, so that switch and environment matrix vanish by themselves.
        far = 2.0 * max(cutoffs.rcut, cutoffs.repformer[0], *(cutoffs.three_body or (0.0,))[:1])
        self.disp = np.zeros((num_atoms, width, 3))
        self.disp[..., 0] = far
        self.disp[row, column] = pairs.disp
        self.neighbors = np.zeros((num_atoms, width), dtype=np.int64)
        self.neighbors[row, column] = place[pairs.neighbor]
        self.neighbor_types = np.repeat(self.pad_types[:, None], width, axis=1)
        self.neighbor_types[row, column] = types[pairs.neighbor]
        self.present = np.zeros((num_atoms, width), dtype=np.bool_)
        self.present[row, column] = True

    def _widths(self, start: int, stop: int) -> tuple[int, int, int]:
        """Return the widths (repinit, three-body, repformer) that atoms start..stop need."""
        repinit = max(1, int(self.used[start:stop].max()))
        if self.plan.all_repinit_slots:
            repinit = self.cutoffs.nsel
        three_body = max(1, int(self.num_three_body[start:stop].max()))
        if self.plan.all_three_body_slots and self.cutoffs.three_body is not None:
            three_body = self.cutoffs.three_body[1]
        repformer = max(1, int(self.num_repformer[start:stop].max()))
        nsel = self.cutoffs.repformer[1]
        if self.plan.needs_empty_slot and self.num_repformer[start:stop].max() == repformer < nsel:
            repformer += 1
        return repinit, three_body, repformer

    def _width(self, start: int, stop: int) -> int:
        return max(self._widths(start, stop))

    def _block_size(self, start: int) -> int:
        """Return how many atoms from `start` on keep the largest tensor within the budget."""
        remaining = len(self.types) - start
        repinit, _, repformer = self._widths(start, start + min(remaining, 64))
        per_atom = max(
            repinit * self.plan.pair_channels, repformer**2 * self.plan.square_channels, 1
        )
        size = max(1, self.budget // per_atom)
        if self.plan.max_atoms:
            size = min(size, self.plan.max_atoms)
        # Equal blocks: no small one is left over at the end.
        return -(-remaining // max(1, round(remaining / size)))

    def blocks(self, device: torch.device) -> list[NeighborBlock]:
        """Return the blocks, as tensors on `device`."""
        made = []
        start = 0
        while start < len(self.types):
            stop = min(len(self.types), start + self._block_size(start))
            made.append(self._block(start, stop, device))
            start = stop
        return made

    def _block(self, start: int, stop: int, device: torch.device) -> NeighborBlock:
        repinit, three_body, repformer = self._widths(start, stop)
        width = max(repinit, three_body, repformer)

        def tensor(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        return NeighborBlock(
            start=start,
            stop=stop,
            disp=tensor(self.disp[start:stop, :width].copy()).requires_grad_(),
            neighbors=tensor(self.neighbors[start:stop, :width]),
            types=tensor(self.types[start:stop]),
            neighbor_types=tensor(self.neighbor_types[start:stop, :width]),
            pad_types=tensor(self.pad_types[start:stop]),
            present=tensor(self.present[start:stop, :width]),
            num_repinit=tensor(self.num_repinit[start:stop]),
            num_three_body=tensor(self.num_three_body[start:stop]),
            num_repformer=tensor(self.num_repformer[start:stop]),
            width_repinit=repinit,
            width_three_body=three_body,
            width_repformer=repformer,
        )
