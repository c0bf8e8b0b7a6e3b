"""Exchange of ghost atoms' features between the processes of LAMMPS.

docs/deepmd-format.md, 8.3.

LAMMPS cuts space into domains. A process computes its own atoms and, before each layer, receives
the features of the atoms around its domain through the operator `deepmd::border_op`, which
deepmd-kit's C++ library implements.
"""

import importlib
import importlib.util
from contextlib import suppress
from typing import Dict, NamedTuple

import torch
from torch import Tensor

_SCHEMA = (
    "border_op(Tensor sendlist, Tensor sendproc, Tensor recvproc, Tensor sendnum, Tensor recvnum, "
    "Tensor g1, Tensor communicator, Tensor nlocal, Tensor nghost) -> Tensor[]"
)

# A declaration lasts as long as the library object that made it.
_declared: list[torch.library.Library] = []


def declare_border_operator() -> None:
    """Make `deepmd::border_op` known to TorchScript; call before scripting or loading a model."""
    if _is_registered():
        return
    # A second registration is an error, so deepmd-kit, if it is here, must come first: it could not
    # be imported into this process any more.
    if importlib.util.find_spec("deepmd") is not None:
        with suppress(ImportError, OSError, RuntimeError):
            importlib.import_module("deepmd.pt.cxx_op")
    if not _is_registered():
        library = torch.library.Library("deepmd", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define(_SCHEMA)  # type: ignore[no-untyped-call]
        _declared.append(library)
        # deepmd-kit without its C++ library leaves a Python function in the operator's place, which
        # TorchScript would compile instead.
        torch.ops.deepmd.__dict__.pop("border_op", None)


def _is_registered() -> bool:
    return bool(torch._C._jit_get_schemas_for_operator("deepmd::border_op"))  # noqa: SLF001


# Axes:  N own atoms   M own atoms and ghosts   A atom channels


class Ghosts(NamedTuple):
    """How to complete the table of features that neighbours index.

    Attributes:
        place: (N,) row of each own atom in the processing order.
        num_all: M.
        comm: deepmd-kit's description of who sends what to whom.
    """

    place: Tensor
    num_all: int
    comm: Dict[str, Tensor]


def exchange(g1_NA: Tensor, ghosts: Ghosts) -> Tensor:
    """Return the features of own atoms and ghosts (M, A), in the caller's order of atoms.

    Differentiable: backwards, gradients of ghosts are added to those of their owners.
    """
    own_NA = g1_NA.index_select(0, ghosts.place)
    num_ghosts = ghosts.num_all - own_NA.shape[0]
    table_MA = torch.nn.functional.pad(own_NA, [0, 0, 0, num_ghosts]).contiguous()
    comm = ghosts.comm
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
