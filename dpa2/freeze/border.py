"""The operator `deepmd::border_op`: declared here, implemented by deepmd-kit's C++ library.

A frozen model calls it between layers when LAMMPS runs it. TorchScript must know its schema to
write or to read such a file, so where deepmd-kit has not registered the operator, it is declared
without an implementation.
"""

import importlib
import importlib.util
from contextlib import suppress

import torch

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
