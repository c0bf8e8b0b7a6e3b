"""Blocks of centre atoms with their neighbours, the unit of work that stays in the cache.

Everything here is compiled by TorchScript, too: frozen models cut their atoms with the same code.
"""

# Axes:  A all centre atoms   N centre atoms of a block   K neighbour slots   X = x, y, z

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from dpa2.model.cutoffs import Cutoffs

# Size of a block's largest tensor. On a CPU small enough to stay in a core's cache between
# operators; a GPU has no such cache and wants few, large kernels that still fit its memory.
BLOCK_BYTES = 1 << 21
BLOCK_BYTES_ACCELERATOR = 1 << 28
# Memory that graphs of one pass may take on a CPU; beyond it values are computed once more.
KEPT_BYTES = 1 << 31
# Atoms whose neighbour counts decide the size of the next block.
LOOKAHEAD = 64


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
        width_three_body: Slots that the three-body part looks at.
        width_repformer: Slots that the repformer looks at; one is empty where attention needs one.
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


class Slots(NamedTuple):
    """The neighbour slots of all centres in processing order, nearest first.

    Attributes:
        disp: (A, K, 3) Å, neighbour minus centre; longer than every cutoff in empty slots.
        neighbors: (A, K) row of the neighbour in the table of atomic features; 0 in empty slots.
        types: (A,) type of each centre.
        neighbor_types: (A, K); of `pad_types` in empty slots.
        pad_types: (A,) what deepmd-kit looks up for empty slots.
        present: (A, K) bool, whether a slot holds a neighbour.
        lengths: (3, A) of the prefixes that are the lists of repinit, three-body and repformer.
    """

    disp: Tensor
    neighbors: Tensor
    types: Tensor
    neighbor_types: Tensor
    pad_types: Tensor
    present: Tensor
    lengths: Tensor


class BlockPlan(nn.Module):
    """How a model wants its atoms cut into blocks.

    Args:
        cutoffs: Capacities of the lists.
        pair_channels: Values per atom and neighbour of the widest pair tensor.
        square_channels: Values per atom and pair of neighbours of the widest attention tensor.
        value_bytes: Size of a value.
        needs_empty_slot: The repformer block keeps one empty slot (smooth attention).
        all_repinit_slots: Repinit needs every empty slot (a mean that differs between slots).
        all_three_body_slots: The three-body part needs every empty slot (a directional mean).
    """

    def __init__(
        self,
        cutoffs: Cutoffs,
        *,
        pair_channels: int,
        square_channels: int,
        value_bytes: int,
        needs_empty_slot: bool,
        all_repinit_slots: bool,
        all_three_body_slots: bool,
    ) -> None:
        super().__init__()
        self.nsel = cutoffs.nsel
        self.three_body_nsel = 0 if cutoffs.three_body is None else cutoffs.three_body[1]
        self.repformer_nsel = cutoffs.repformer[1]
        self.pair_channels = pair_channels
        self.square_channels = square_channels
        self.value_bytes = value_bytes
        self.needs_empty_slot = needs_empty_slot
        self.all_repinit_slots = all_repinit_slots
        self.all_three_body_slots = all_three_body_slots
        # Constants of the module reach TorchScript as attributes.
        self.block_elements = BLOCK_BYTES // value_bytes
        self.block_elements_accelerator = BLOCK_BYTES_ACCELERATOR // value_bytes
        self.lookahead = LOOKAHEAD

    def forward(self, slots: Slots) -> List[NeighborBlock]:
        """Return blocks, at least one, that cover the centres in order; `disp` are leaves."""
        # One transfer, then widths are decided on the host.
        lengths_3A = slots.lengths.cpu()
        num_centers = lengths_3A.shape[1]
        blocks: List[NeighborBlock] = []
        start = 0
        while start < num_centers or len(blocks) == 0:
            size = self.block_size(lengths_3A, start, slots.disp.device.type == "cpu")
            stop = min(num_centers, start + size)
            blocks.append(self.block(slots, start, stop, self.widths(lengths_3A, start, stop)))
            start = stop
        return blocks

    @torch.jit.unused
    def num_kept(self, blocks: List[NeighborBlock], num_layers: int, trained: bool) -> int:
        """Return how many blocks may keep the graphs of one pass, of `num_layers` layers."""
        left = _bytes_for_graphs(blocks[0].disp.device)
        # As measured: graphs of gradients that are differentiated again take three times as much.
        size = self.value_bytes * (3 if trained else 1)
        for index, block in enumerate(blocks):
            repformer, pairs = block.width_repformer, block.width_repinit * self.pair_channels
            # As measured: of a layer three tensors of pairs and two of pairs of neighbours.
            layer = repformer * (2 * repformer * self.square_channels + 3 * self.pair_channels)
            left -= size * (num_layers * layer + 2 * pairs) * (block.stop - block.start)
            if left < 0:
                return index
        return len(blocks)

    def block(
        self, slots: Slots, start: int, stop: int, widths: Tuple[int, int, int]
    ) -> NeighborBlock:
        """Return centres start..stop with as many slots as the widest list needs."""
        K = max(widths[0], widths[1], widths[2])
        return NeighborBlock(
            start,
            stop,
            slots.disp[start:stop, :K]
            .clone(memory_format=torch.contiguous_format)
            .requires_grad_(True),
            slots.neighbors[start:stop, :K].contiguous(),
            slots.types[start:stop],
            slots.neighbor_types[start:stop, :K].contiguous(),
            slots.pad_types[start:stop],
            slots.present[start:stop, :K].contiguous(),
            slots.present[start:stop].sum(dim=1),
            slots.lengths[1, start:stop],
            slots.lengths[2, start:stop],
            widths[0],
            widths[1],
            widths[2],
        )

    def widths(self, lengths_3A: Tensor, start: int, stop: int) -> Tuple[int, int, int]:
        """Return the slots (repinit, three-body, repformer) that centres start..stop need."""
        longest_3 = lengths_3A.new_zeros([3])
        if stop > start:
            longest_3 = torch.max(lengths_3A[:, start:stop], dim=1)[0]
        # TorchScript wants the type of this very statement.
        longest: List[int] = longest_3.tolist()
        repinit = self.nsel if self.all_repinit_slots else max(1, longest[0])
        three_body = self.three_body_nsel if self.all_three_body_slots else max(1, longest[1])
        repformer = max(1, longest[2])
        if self.needs_empty_slot and longest[2] == repformer and repformer < self.repformer_nsel:
            repformer += 1
        return repinit, three_body, repformer

    def block_size(self, lengths_3A: Tensor, start: int, on_cpu: bool) -> int:
        """Return how many centres from `start` on keep the largest tensor within the budget."""
        remaining = lengths_3A.shape[1] - start
        ahead = start + min(remaining, self.lookahead)
        repinit, _, repformer = self.widths(lengths_3A, start, ahead)
        per_atom = max(
            repinit * self.pair_channels, repformer * repformer * self.square_channels, 1
        )
        budget = self.block_elements if on_cpu else self.block_elements_accelerator
        size = max(1, budget // per_atom)
        # Equal blocks: no small one is left over at the end.
        num_blocks = max(1, int(round(remaining / size)))  # noqa: RUF046 - a float in TorchScript
        return (remaining + num_blocks - 1) // num_blocks


def _bytes_for_graphs(device: torch.device) -> int:
    """Return the memory that graphs may take: on a GPU half of what is free."""
    if device.type != "cuda":
        return KEPT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return free // 2


def pair_indices(
    blocks: List[NeighborBlock], center_A: Tensor, neighbor_AK: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor]:
    """Return what centre and neighbour of every slot of every block are called, (E,) each.

    Args:
        blocks: All blocks.
        center_A: (A,) name of each centre.
        neighbor_AK: (A, K) name of the neighbour in each slot; None: its row among the centres.
    """
    centers: List[Tensor] = []
    neighbors: List[Tensor] = []
    for b in blocks:
        K = b.neighbors.shape[1]
        centers.append(center_A[b.start : b.stop].repeat_interleave(K))
        named = b.neighbors if neighbor_AK is None else neighbor_AK[b.start : b.stop, :K]
        neighbors.append(named.flatten())
    return torch.cat(centers), torch.cat(neighbors)


def filled(present_NK: Tensor, lengths_N: Tensor, width: int) -> Tensor:
    """Return (N, width) bool: whether a slot is filled in the list of length `lengths_N`."""
    slots_K = torch.arange(width, device=lengths_N.device)
    return present_NK[:, :width] & (slots_K.unsqueeze(0) < lengths_N.unsqueeze(1))


def kept(keep_TT: Tensor, types_N: Tensor, neighbor_types_NK: Tensor) -> Tensor:
    """Return (N, K) bool: whether the pair of types of each slot is not excluded."""
    num_types = keep_TT.shape[0]
    index_NK = types_N.unsqueeze(1) * num_types + neighbor_types_NK
    return keep_TT.flatten()[index_NK]
