"""The operator `deepmd::border_op`: declared here, implemented by deepmd-kit's C++ library.

A frozen model calls it between layers when LAMMPS runs it. TorchScript must know its schema to write
or to read such a file, so where deepmd-kit has not registered the operator, it is declared without an
implementation.
"""

import torch

_SCHEMA = (
    "border_op(Tensor sendlist, Tensor sendproc, Tensor recvproc, Tensor sendnum, Tensor recvnum, "
    "Tensor g1, Tensor communicator, Tensor nlocal, Tensor nghost) -> Tensor[]"
)

# A declaration lasts as long as the library object that made it.
_declared: list[torch.library.Library] = []


def declare_border_operator() -> None:
    """Make `deepmd::border_op` known to TorchScript; call before scripting or loading a model."""
    # deepmd-kit without its C++ library puts a Python function in the operator's place
    namespace = torch.ops.deepmd
    if "border_op" in namespace.__dict__ and not isinstance(
        namespace.__dict__["border_op"], torch._ops.OpOverloadPacket
    ):
        del namespace.__dict__["border_op"]
    if not hasattr(namespace, "border_op"):
        library = torch.library.Library("deepmd", "FRAGMENT")  # noqa: TOR901 - kept in `_declared`
        library.define(_SCHEMA)
        _declared.append(library)
