"""`torch.compile` for evaluation."""

import torch

from dpa2.model.energy import EnergyModel


def compile_layers(model: EnergyModel, backend: str = "inductor") -> str | None:
    """Compile the layers of a model's repformer, in place; they are most of its work.

    One layer at a time: the whole descriptor is one loop over blocks and layers, which a compiler
    unrolls into a graph that takes it ten minutes and more.

    Args:
        model: The network.
        backend: Of `torch.compile`.

    Returns:
        Why the model stays as it is, in a sentence's words; None if it is compiled.
    """
    reason = _why_unavailable(backend)
    if reason is None:
        for layer in model.descriptor.repformer.layers:
            layer.compile(dynamic=True, backend=backend)
    return reason


def _why_unavailable(backend: str) -> str | None:
    """Compile a sum, which needs all that a network needs: Python's version, C++ or Triton."""
    try:
        torch.compile(_add_one, backend=backend)(torch.zeros(2))
    except Exception as error:  # noqa: BLE001 - compilers fail with whatever goes wrong in them
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    return None


def _add_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1.0
