"""Start one branch of a fine-tuning: copy the weights, fit the energies, say what was done."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from dpa2.data.frames import Frames
from dpa2.finetune.bias import BiasMode, adjust_bias, normalise_parameters
from dpa2.finetune.origin import Origin
from dpa2.finetune.provenance import Provenance, provenance
from dpa2.finetune.transfer import transfer
from dpa2.model.energy import EnergyModel


def start_branch(
    name: str,
    model: EnergyModel,
    origin: Origin,
    tensors: Mapping[str, Tensor],
    frames: Sequence[Frames],
    bias_mode: BiasMode | None = None,
) -> Provenance:
    """Give a fresh model the weights of a checkpoint's branch and the energies of the new data.

    Args:
        name: The branch in the input.
        model: Fresh; with the statistics of the new data where the checkpoint lacks elements
            (`needs_statistics`).
        origin: The branch in the checkpoint.
        tensors: Its tensors.
        frames: Training data to fit the energies to; a resumed branch needs none.
        bias_mode: How; None as deepmd-kit: `change` for a copied fitting net, `set` for a random
            one. A resumed branch keeps its energies in any case.

    Raises:
        CheckpointError: When the tensors do not fit the model.
        DataError: When the data have no energies.
    """
    record = transfer(model, origin, tensors)
    if origin.fitting == "random":
        normalise_parameters(model, frames)
    bias = None
    if origin.fitting != "resumed":
        mode = bias_mode or ("set" if origin.fitting == "random" else "change")
        bias = adjust_bias(model, frames, mode)
    return provenance(name, model, origin, record, bias)


def needs_statistics(model: EnergyModel, origin: Origin) -> bool:
    """Return whether statistics of the new data have to be computed before the start."""
    return bool(origin.new_elements(model.type_map))
