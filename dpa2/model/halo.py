"""Features of atoms that other processes own: exchanged between layers in parallel runs.

docs/deepmd-format.md, 8.3.

LAMMPS cuts space into domains. A process computes its own atoms and, before each layer, receives
the features of the atoms around its domain through deepmd-kit's operator `deepmd::border_op`.
"""

# Axes:  N own atoms   M own atoms and ghosts   A atom channels

from typing import Dict, NamedTuple

import torch
from torch import Tensor


class Halo(NamedTuple):
    """How to complete the table of features that neighbours index.

    Attributes:
        place: (N,) row of each own atom in the processing order.
        num_all: M.
        comm: deepmd-kit's description of who sends what to whom.
    """

    place: Tensor
    num_all: int
    comm: Dict[str, Tensor]


def exchange(g1_NA: Tensor, halo: Halo) -> Tensor:
    """Return the features of own atoms and ghosts (M, A), in the caller's order of atoms.

    Differentiable: backwards, gradients of ghosts are added to those of their owners.
    """
    own_NA = g1_NA.index_select(0, halo.place)
    num_ghosts = halo.num_all - own_NA.shape[0]
    table_MA = torch.nn.functional.pad(own_NA, [0, 0, 0, num_ghosts]).contiguous()
    comm = halo.comm
    # The operator reads the two counts on the host.
    host = torch.device("cpu")
    filled = torch.ops.deepmd.border_op(
        comm["send_list"],
        comm["send_proc"],
        comm["recv_proc"],
        comm["send_num"],
        comm["recv_num"],
        table_MA,
        comm["communicator"],
        torch.tensor(own_NA.shape[0], dtype=torch.int32, device=host),
        torch.tensor(num_ghosts, dtype=torch.int32, device=host),
    )
    return filled[0]
