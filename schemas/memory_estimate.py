"""How much memory a training step needs, estimated from the configuration.

Forces are derivatives, and training differentiates them once more, so that nearly every
intermediate tensor of a step stays alive until its end. The estimate counts those tensors; its
factors were fitted to measured peaks of this engine (zero to six layers, with and without
attention, 81 and 192 atoms of water), which it meets within a fifth.
"""

from dataclasses import dataclass

from schemas.model import Model
from schemas.network import canonical_precision

_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_COPIES = 4
"""Weights, gradients and both moments of Adam."""
_RUNTIME = 310 * 2**20
"""PyTorch itself, before anything is computed."""

# Live tensors per channel of a pair (repinit), of a triple (three-body), of an atom (fitting net).
_REPINIT = 7.1
_THREE_BODY = 6.0
_FITTING = 10.0
# Idem, of a pair in a repformer layer.
_ATOM_CHANNELS = 5.0
_PAIR_CHANNELS = 18.0
# Per pair of neighbours and head (or axis) of the attention.
_PAIR_ATTENTION = 18.0


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Neighbours of an atom within the three cutoffs."""

    repinit: float
    three_body: float
    repformer: float


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of a training step in bytes.

    Args:
        activations: What a step keeps until its end.
        parameters: Weights, gradients, moments of the optimiser.
        runtime: PyTorch itself.
    """

    activations: int
    parameters: int
    runtime: int = _RUNTIME

    @property
    def total(self) -> int:
        """All of it."""
        return self.activations + self.parameters + self.runtime


def memory_estimate(
    model: Model, num_parameters: int, num_atoms: int, neighbors: Neighbors
) -> MemoryEstimate:
    """Return the memory of a training step.

    Args:
        model: The model.
        num_parameters: All parameters that are trained together.
        num_atoms: Atoms of the largest batch.
        neighbors: Of an atom, in the mean.
    """
    size = _BYTES[canonical_precision(model.descriptor.precision)]
    numbers = _of_descriptor(model, neighbors) + _FITTING * sum(model.fitting_net.neuron)
    return MemoryEstimate(
        activations=round(num_atoms * numbers * size), parameters=_COPIES * num_parameters * size
    )


def _of_descriptor(model: Model, neighbors: Neighbors) -> float:
    """Return the live numbers of one atom."""
    repinit, layers = model.descriptor.repinit, model.descriptor.repformer
    found = _REPINIT * neighbors.repinit * sum(repinit.neuron)
    if repinit.use_three_body:
        found += _THREE_BODY * neighbors.three_body**2 * sum(repinit.three_body_neuron)
    pair = _ATOM_CHANNELS * layers.g1_dim + _PAIR_CHANNELS * layers.g2_dim
    heads = layers.attn2_nhead if layers.update_g2_has_attn or layers.update_h2 else 0
    attention = _PAIR_ATTENTION * neighbors.repformer**2 * heads
    found += layers.nlayers * neighbors.repformer * pair
    return found + max(0, layers.nlayers - 1) * attention
