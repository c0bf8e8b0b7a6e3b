"""Neighbour lists over atoms and ghosts cut into blocks for the network, in TorchScript."""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from dpa2.lower.periodic_images import nearest_neighbors
from dpa2.model.blocks import NeighborBlock, kept
from dpa2.model.graph import BLOCK_ELEMENTS, BlockPlan
from dpa2.model.neighbors import Cutoffs

# Axes:  F frames   N atoms per frame   M atoms and ghosts per frame   A centres (F * N)
#        K neighbour slots   X = x, y, z


# A GPU wants few large operators rather than ones that fit a cache.
BLOCK_ELEMENTS_GPU = 1 << 26
# Atoms whose neighbour counts decide the size of the next block.
LOOKAHEAD = 64


class Laid(NamedTuple):
    """All centres of a batch in processing order, cut into blocks.

    Attributes:
        blocks: Their `disp` are leaves that require gradients.
        order: (A,) frame * N + atom of each centre.
        place: (A,) the inverse: where each atom's centre is.
        frame: (A,) frame of each centre.
        types: (A,) type of each centre; 0 where there is no atom.
        real: (A,) bool, whether there is an atom.
        center: Per block, (n, K) frame * M + atom of the centre of each slot.
        neighbor: Per block, (n, K) frame * M + neighbour, an atom or a ghost.
    """

    blocks: List[NeighborBlock]
    order: Tensor
    place: Tensor
    frame: Tensor
    types: Tensor
    real: Tensor
    center: List[Tensor]
    neighbor: List[Tensor]


class Slots(NamedTuple):
    """The neighbour slots of all centres, in the caller's order, nearest first.

    Attributes:
        present: (A, K) bool, whether a slot holds a neighbour.
        disp: (A, K, 3) Å, neighbour minus centre; longer than every cutoff in empty slots.
        center: (A,) frame * M + atom of each centre.
        neighbor: (A, K) frame * M + neighbour, an atom or a ghost.
        neighbor_types: (A, K); of `pad_types` in empty slots.
        frame: (A,) frame of each centre.
        types: (A,) type of each centre; 0 where there is no atom.
        pad_types: (A,) what deepmd-kit looks up for empty slots.
        lengths: (3, A) of the prefixes that are the lists of repinit, three-body and repformer.
    """

    present: Tensor
    disp: Tensor
    center: Tensor
    neighbor: Tensor
    neighbor_types: Tensor
    frame: Tensor
    types: Tensor
    pad_types: Tensor
    lengths: Tensor


class Layout(nn.Module):
    """Cuts neighbour lists into blocks as `dpa2.model.graph` does.

    Args:
        cutoffs: Radii and capacities of the lists.
        plan: How the model wants atoms cut into blocks.
    """

    def __init__(self, cutoffs: Cutoffs, plan: BlockPlan) -> None:
        super().__init__()
        self.rcut = cutoffs.rcut
        self.nsel = cutoffs.nsel
        self.has_three_body = cutoffs.three_body is not None
        three_rcut, three_nsel = cutoffs.three_body or (0.0, 0)
        self.three_rcut = three_rcut
        self.three_nsel = three_nsel
        self.three_capacity = cutoffs.capacity(three_rcut, three_nsel)
        self.repformer_rcut, self.repformer_nsel = cutoffs.repformer
        self.repformer_capacity = cutoffs.capacity(*cutoffs.repformer)
        # Longer than every cutoff, so that switch and environment matrix vanish by themselves.
        self.far = 2.0 * max(self.rcut, self.three_rcut, self.repformer_rcut)
        self.keep_TT: Optional[Tensor] = None
        if cutoffs.keep is not None:
            self.keep_TT = torch.from_numpy(cutoffs.keep)
        self.pair_channels = plan.pair_channels
        self.square_channels = plan.square_channels
        self.needs_empty_slot = plan.needs_empty_slot
        self.all_repinit_slots = plan.all_repinit_slots
        self.all_three_body_slots = plan.all_three_body_slots and self.has_three_body
        self.block_elements = BLOCK_ELEMENTS
        self.block_elements_gpu = BLOCK_ELEMENTS_GPU
        self.lookahead = LOOKAHEAD
        self.max_slots = max(self.nsel, self.three_nsel, self.repformer_nsel)

    def forward(
        self,
        coord_FMX: Tensor,
        types_FM: Tensor,
        nlist_FNW: Tensor,
        parent_FM: Optional[Tensor],
    ) -> Laid:
        """Lay out a batch.

        Args:
            coord_FMX: (F, M, 3) Å; the first N atoms of a frame are the centres.
            types_FM: (F, M); -1 where there is no atom.
            nlist_FNW: (F, N, W) in any order, perhaps beyond the cutoff; -1 in empty slots.
            parent_FM: (F, M) the centre whose features an atom or ghost has; None: neighbours index
                a table of all M atoms of the one frame.
        """
        F, N = nlist_FNW.shape[0], nlist_FNW.shape[1]
        A = F * N
        slots = self.slots(coord_FMX, types_FM, nlist_FNW)
        present_AK, disp_AKX, neighbor_AK = slots.present, slots.disp, slots.neighbor
        lengths_3A = slots.lengths
        order = torch.argsort(lengths_3A[2], stable=True)
        place = torch.argsort(order)
        if parent_FM is None:
            row_AK = neighbor_AK
        else:
            first_F1 = torch.arange(F, device=parent_FM.device).unsqueeze(1) * N
            row_M = (parent_FM + first_F1).flatten()
            row_AK = place[row_M[neighbor_AK]]
        lengths_3A = lengths_3A[:, order]
        # One transfer, then widths are decided on the host.
        host_3A = lengths_3A.cpu()

        blocks: List[NeighborBlock] = []
        centers: List[Tensor] = []
        neighbors: List[Tensor] = []
        start = 0
        while start < A or len(blocks) == 0:
            stop = min(A, start + self.block_size(host_3A, start, disp_AKX.is_cuda))
            w_repinit, w_three, w_repformer = self.widths(host_3A, start, stop)
            K = max(w_repinit, w_three, w_repformer)
            rows = order[start:stop]
            present = present_AK[rows, :K]
            blocks.append(
                NeighborBlock(
                    start,
                    stop,
                    disp_AKX[rows, :K].detach().requires_grad_(True),
                    # Empty slots must stay within the table, even if they read from anywhere.
                    row_AK[rows, :K] * present,
                    slots.types[rows],
                    slots.neighbor_types[rows, :K],
                    slots.pad_types[rows],
                    present,
                    present_AK[rows].sum(dim=1),
                    lengths_3A[1, start:stop],
                    lengths_3A[2, start:stop],
                    w_repinit,
                    w_three,
                    w_repformer,
                )
            )
            centers.append(slots.center[rows].unsqueeze(1).expand(stop - start, K))
            neighbors.append(neighbor_AK[rows, :K])
            start = stop
        real_A = types_FM[:, :N].flatten() >= 0
        return Laid(
            blocks,
            order,
            place,
            slots.frame[order],
            slots.types[order],
            real_A[order],
            centers,
            neighbors,
        )

    def slots(self, coord_FMX: Tensor, types_FM: Tensor, nlist_FNW: Tensor) -> Slots:
        """Return the slots of all centres; arguments as in `forward`."""
        F, N, M = nlist_FNW.shape[0], nlist_FNW.shape[1], types_FM.shape[1]
        found = nearest_neighbors(coord_FMX, types_FM, nlist_FNW, self.rcut, self.nsel)
        device = types_FM.device
        index_AK = found.indices.flatten(0, 1)
        distance_AK = found.distance.flatten(0, 1)
        disp_AKX = found.disp.flatten(0, 1)
        lacking = self.max_slots - index_AK.shape[1]
        index_AK = torch.nn.functional.pad(index_AK, [0, lacking], value=-1.0)
        distance_AK = torch.nn.functional.pad(distance_AK, [0, lacking], value=float("inf"))
        disp_AKX = torch.nn.functional.pad(disp_AKX, [0, 0, 0, lacking])

        frame_A = torch.arange(F, device=device).repeat_interleave(N)
        center_A = frame_A * M + torch.arange(N, device=device).repeat(F)
        # Types of absent atoms look up the first row of every table; their energies are masked.
        all_types = types_FM.flatten().clamp(min=0)
        types_A = all_types.index_select(0, center_A)
        # deepmd-kit's empty slots look up the first atom of their frame
        # (docs/deepmd-format.md, 3.7)
        pad_types_A = all_types.index_select(0, frame_A * M)
        neighbor_AK = index_AK.clamp(min=0) + (frame_A * M).unsqueeze(1)
        present_AK = index_AK >= 0
        neighbor_types_AK = all_types[neighbor_AK]
        keep_TT = self.keep_TT
        if keep_TT is not None:
            # Removed pairs leave their slots empty, as in deepmd-kit.
            present_AK = present_AK & kept(keep_TT, types_A, neighbor_types_AK)
        neighbor_types_AK = torch.where(present_AK, neighbor_types_AK, pad_types_A.unsqueeze(1))
        far_X = torch.tensor([self.far, 0.0, 0.0], dtype=disp_AKX.dtype, device=device)
        disp_AKX = torch.where(present_AK.unsqueeze(-1), disp_AKX, far_X)

        lengths_3A = torch.stack(
            [
                prefix(present_AK, distance_AK, self.rcut, self.max_slots),
                prefix(present_AK, distance_AK, self.three_rcut, self.three_capacity),
                prefix(present_AK, distance_AK, self.repformer_rcut, self.repformer_capacity),
            ]
        )
        return Slots(
            present_AK,
            disp_AKX,
            center_A,
            neighbor_AK,
            neighbor_types_AK,
            frame_A,
            types_A,
            pad_types_A,
            lengths_3A,
        )

    def widths(self, lengths_3A: Tensor, start: int, stop: int) -> Tuple[int, int, int]:
        """Return the slots (repinit, three-body, repformer) that centres start..stop need."""
        longest_3 = lengths_3A.new_zeros([3])
        if stop > start:
            longest_3 = torch.max(lengths_3A[:, start:stop], dim=1)[0]
        # TorchScript wants the type of this very statement.
        longest: List[int] = longest_3.tolist()
        repinit = self.nsel if self.all_repinit_slots else max(1, longest[0])
        three_body = self.three_nsel if self.all_three_body_slots else max(1, longest[1])
        repformer = max(1, longest[2])
        if self.needs_empty_slot and longest[2] == repformer and repformer < self.repformer_nsel:
            repformer += 1
        return repinit, three_body, repformer

    def block_size(self, lengths_3A: Tensor, start: int, is_cuda: bool) -> int:
        """Return how many centres from `start` on keep the largest tensor within the budget."""
        remaining = lengths_3A.shape[1] - start
        ahead = start + min(remaining, self.lookahead)
        repinit, _, repformer = self.widths(lengths_3A, start, ahead)
        per_atom = max(
            repinit * self.pair_channels, repformer * repformer * self.square_channels, 1
        )
        budget = self.block_elements_gpu if is_cuda else self.block_elements
        size = max(1, budget // per_atom)
        # Equal blocks: no small one is left over at the end.
        num_blocks = max(1, int(remaining / size + 0.5))
        return (remaining + num_blocks - 1) // num_blocks


def prefix(present_AK: Tensor, distance_AK: Tensor, rcut: float, capacity: int) -> Tensor:
    """Return the length (A,) of the prefix that holds the neighbours within `rcut`."""
    K = present_AK.shape[1]
    slot_K = torch.arange(1, K + 1, device=present_AK.device)
    inside_AK = present_AK & (distance_AK <= rcut) & (slot_K <= capacity)
    return (inside_AK * slot_K).max(dim=1)[0]


def cast(blocks: List[NeighborBlock], dtype: torch.dtype) -> List[NeighborBlock]:
    """Return the blocks with displacements in the network's precision."""
    # TorchScript knows no `_replace`.
    made: List[NeighborBlock] = []
    for b in blocks:
        made.append(  # noqa: PERF401 - nor comprehensions that make named tuples
            NeighborBlock(
                b.start,
                b.stop,
                b.disp.to(dtype),
                b.neighbors,
                b.types,
                b.neighbor_types,
                b.pad_types,
                b.present,
                b.num_repinit,
                b.num_three_body,
                b.num_repformer,
                b.width_repinit,
                b.width_three_body,
                b.width_repformer,
            )
        )
    return made
