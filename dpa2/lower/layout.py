"""Neighbour lists over atoms and ghosts as slots of the network's blocks, in TorchScript.

The trainer's graph (`dpa2.model.graph`) makes the same slots of pairs that were searched on the
host; this second form exists because a frozen model is handed lists of deepmd-kit's kind, and may
use nothing but tensors. Cutting into blocks is one piece of code for both (`dpa2.model.blocks`).
"""

# Axes:  F frames   N atoms per frame   M atoms and ghosts per frame   A centres (F * N)
#        K neighbour slots   X = x, y, z

from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from dpa2.lower.periodic_images import nearest_neighbors
from dpa2.model.blocks import BlockPlan, NeighborBlock, Slots, kept
from dpa2.model.cutoffs import Cutoffs


class Laid(NamedTuple):
    """All centres of a batch in processing order, cut into blocks.

    Attributes:
        blocks: Their `disp` are leaves that require gradients.
        order: (A,) frame * N + atom of each centre.
        place: (A,) the inverse: where each atom's centre is.
        frame: (A,) frame of each centre.
        types: (A,) type of each centre; 0 where there is no atom.
        real: (A,) bool, whether there is an atom.
        center: (A,) frame * M + atom of each centre.
        neighbor: (A, K) frame * M + neighbour in each slot, an atom or a ghost.
    """

    blocks: List[NeighborBlock]
    order: Tensor
    place: Tensor
    frame: Tensor
    types: Tensor
    real: Tensor
    center: Tensor
    neighbor: Tensor


class Layout(nn.Module):
    """Makes slots and blocks of neighbour lists.

    Args:
        cutoffs: Radii and capacities of the lists.
        plan: How the model wants atoms cut into blocks.
    """

    def __init__(self, cutoffs: Cutoffs, plan: BlockPlan) -> None:
        super().__init__()
        self.plan = plan
        self.rcut = cutoffs.rcut
        self.nsel = cutoffs.nsel
        self.three_rcut, self.three_nsel = cutoffs.three_body or (0.0, 0)
        self.three_capacity = cutoffs.capacity(self.three_rcut, self.three_nsel)
        self.repformer_rcut, self.repformer_nsel = cutoffs.repformer
        self.repformer_capacity = cutoffs.capacity(*cutoffs.repformer)
        self.far = cutoffs.far
        self.keep_TT: Optional[Tensor] = None
        if cutoffs.keep is not None:
            self.keep_TT = torch.from_numpy(cutoffs.keep)
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
        F, N, M = nlist_FNW.shape[0], nlist_FNW.shape[1], types_FM.shape[1]
        slots = self.slots(coord_FMX, types_FM, nlist_FNW)
        order = torch.argsort(slots.lengths[2], stable=True)
        place = torch.argsort(order)
        rows_AK = slots.neighbors
        if parent_FM is not None:
            first_F1 = torch.arange(F, device=parent_FM.device).unsqueeze(1) * N
            rows_AK = place[(parent_FM + first_F1).flatten()[rows_AK]]
        types_A = slots.types[order]
        blocks = self.plan(
            Slots(
                slots.disp[order],
                # Empty slots must stay within the table, even if they read from anywhere.
                (rows_AK * slots.present)[order],
                types_A,
                slots.neighbor_types[order],
                slots.pad_types[order],
                slots.present[order],
                slots.lengths[:, order],
            )
        )
        center_A, frame_A = centers(F, N, M, types_FM.device)
        real_A = types_FM[:, :N].flatten() >= 0
        return Laid(
            blocks,
            order,
            place,
            frame_A[order],
            types_A,
            real_A[order],
            center_A[order],
            slots.neighbors[order],
        )

    def slots(self, coord_FMX: Tensor, types_FM: Tensor, nlist_FNW: Tensor) -> Slots:
        """Return the slots of all centres in the caller's order; arguments as in `forward`.

        Their `neighbors` are frame * M + neighbour, an atom or a ghost, not yet rows of a table.
        """
        F, N, M = nlist_FNW.shape[0], nlist_FNW.shape[1], types_FM.shape[1]
        found = nearest_neighbors(coord_FMX, types_FM, nlist_FNW, self.rcut, self.nsel)
        device = types_FM.device
        lacking = self.max_slots - found.indices.shape[2]
        index_AK = torch.nn.functional.pad(found.indices.flatten(0, 1), [0, lacking], value=-1.0)
        distance_AK = found.distance.flatten(0, 1)
        distance_AK = torch.nn.functional.pad(distance_AK, [0, lacking], value=float("inf"))
        disp_AKX = torch.nn.functional.pad(found.disp.flatten(0, 1), [0, 0, 0, lacking])

        center_A, frame_A = centers(F, N, M, device)
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
            disp_AKX,
            neighbor_AK,
            types_A,
            neighbor_types_AK,
            pad_types_A,
            present_AK,
            lengths_3A,
        )


def centers(F: int, N: int, M: int, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Return (frame * M + atom, frame) of all centres, (A,) each, in the caller's order."""
    frame_A = torch.arange(F, device=device).repeat_interleave(N)
    return frame_A * M + torch.arange(N, device=device).repeat(F), frame_A


def lower_outputs(
    energy_FN: Tensor,
    mask_FN: Tensor,
    force_FMX: Tensor,
    virial_FMXY: Tensor,
    virial_FXY: Tensor,
    dtype: torch.dtype,
) -> Dict[str, Tensor]:
    """Return results under the names of deepmd-kit's lower interface; it counts on this order.

    Args:
        energy_FN: (F, N) eV.
        mask_FN: (F, N), whether an atom has an energy.
        force_FMX: (F, M, 3) eV/Å.
        virial_FMXY: (F, M, 3, 3) eV.
        virial_FXY: (F, 3, 3) eV.
        dtype: Of what belongs to atoms and ghosts.
    """
    return {
        "energy": energy_FN.unsqueeze(-1).to(dtype),
        "mask": mask_FN.to(torch.int32),
        "energy_redu": energy_FN.sum(dim=1, keepdim=True),
        "energy_derv_r": force_FMX.unsqueeze(2).to(dtype),
        "energy_derv_c": virial_FMXY.flatten(2).unsqueeze(2).to(dtype),
        "energy_derv_c_redu": virial_FXY.flatten(1).unsqueeze(1),
    }


def prefix(present_AK: Tensor, distance_AK: Tensor, rcut: float, capacity: int) -> Tensor:
    """Return the length (A,) of the prefix that holds the neighbours within `rcut`."""
    K = present_AK.shape[1]
    slot_K = torch.arange(1, K + 1, device=present_AK.device)
    inside_AK = present_AK & (distance_AK <= rcut) & (slot_K <= capacity)
    return (inside_AK * slot_K).max(dim=1)[0]
