"""The operator `deepmd::border_op`: declared here, implemented by deepmd-kit's C++ library.

A frozen model calls it between layers when LAMMPS runs it. TorchScript must know its schema to
write or to read such a file, so where deepmd-kit has not registered the operator, it is declared
without an implementation.
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
    # deepmd-kit without its C++ library leaves a Python function in `torch.ops.deepmd`, which does
    # not make an operator; the registry knows.
    if not torch._C._jit_get_schemas_for_operator("deepmd::border_op"):  # noqa: SLF001
        library = torch.library.Library("deepmd", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define(_SCHEMA)  # type: ignore[no-untyped-call]
        _declared.append(library)
        # That function would be scripted in the operator's place.
        torch.ops.deepmd.__dict__.pop("border_op", None)
