"""deepmd-kit's state dictionary of a branch, to and from our network.

docs/deepmd-format.md, 4.2, 4.4. Which tensors there are is in `schemas.input.weights`.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpa2.formats.compressed import table_tensors
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError
from schemas.input.model import parse_model
from schemas.input.weights import DESCRIPTOR, Weight, weights

_NOT_TOGETHER = "its model section and its weights do not belong together"


def held_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network by the places that `schemas.input.weights` names."""
    held: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    return held | dict(model.named_buffers(remove_duplicate=False))


def to_deepmd_state(
    model: EnergyModel, known: dict[int, Tensor] | None = None
) -> "OrderedDict[str, Tensor]":
    """Return deepmd-kit's state dict of one branch on the CPU (views of ours where possible).

    Twins (`_networks`) share storage, as in deepmd-kit's own files.

    Args:
        model: The branch.
        known: What earlier calls have returned, by identity of our tensor; branches that share
            parts then share storage in the file.
    """
    known = {} if known is None else known
    held, tables = held_tensors(model), table_tensors(model)
    state: OrderedDict[str, Tensor] = OrderedDict()
    for weight in weights(model.config):
        if weight.is_empty:
            empty = torch.zeros(0, dtype=model.descriptor.dtype)
            state[weight.name] = tables.get(weight.name, empty).cpu()
            continue
        tensor = held[weight.place]
        if id(tensor) not in known:
            known[id(tensor)] = _in_file(tensor.detach(), weight).cpu()
        state[weight.name] = known[id(tensor)]
    return state


def load_deepmd_state(model: EnergyModel, state: Mapping[str, Tensor]) -> None:
    """Copy deepmd-kit's tensors of one branch into `model`; every tensor must be there.

    Args:
        model: Built from the same `model_params`.
        state: Keys without the `model.<branch>.` prefix. Extra keys are an error too, except empty
            placeholders.

    Raises:
        CheckpointError: If a tensor is missing, surplus, of another shape, or compressed.
    """
    expected = list(weights(model.config))
    _refuse_surplus(expected, state)
    held = held_tensors(model)
    with torch.no_grad():
        for weight in expected:
            if weight.is_empty or weight.is_twin:
                continue
            if weight.name not in state:
                raise CheckpointError(
                    f"the file lacks a tensor of this model: {weight.name}", hint=_NOT_TOGETHER
                )
            value = state[weight.name]
            if tuple(value.shape) != weight.shape:
                raise CheckpointError(
                    f"{weight.name} has shape {tuple(value.shape)} in the file and "
                    f"{weight.shape} in the model",
                    hint=_NOT_TOGETHER,
                )
            if not weight.is_statistic:
                held[weight.place].copy_(value.reshape(held[weight.place].shape))
    for name, block in model.descriptor.blocks().items():
        prefix = f"{DESCRIPTOR}{name}."
        block.set_values(state[prefix + "mean"], state[prefix + "stddev"])
    model.statistics_changed()


def model_from_state(
    section: Mapping[str, Any], state: Mapping[str, Tensor], path: object = ""
) -> EnergyModel:
    """Return the network of a `model` section with deepmd-kit's tensors; `path` is for messages.

    Raises:
        CheckpointError: If they do not belong together.
        ConfigError: If the model is none that this engine runs.
    """
    model = build_model(parse_model(section, path))
    load_deepmd_state(model, state)
    return model


def deepmd_parameters(*models: EnergyModel) -> list[tuple[int, str, nn.Parameter | None]]:
    """Return the parameters in the order in which deepmd-kit's optimiser numbers them.

    What several models share is listed once, with the first of them.

    Returns:
        The number of the model, the name in it, and the parameter: None stands for deepmd-kit's
        zero-length parameters, which take a place in the order and never have a state.
    """
    listed: dict[tuple[int, str], tuple[int, str, nn.Parameter | None]] = {}
    for number, model in enumerate(models):
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for weight in weights(model.config):
            if not weight.is_parameter:
                continue
            found = None if weight.is_empty else parameters[weight.place]
            owner = model.get_submodule(weight.place) if found is None else found
            tail = weight.name.rpartition(".compress_")[2] if found is None else ""
            listed.setdefault((id(owner), tail), (number, weight.name, found))
    return list(listed.values())


def _refuse_surplus(expected: Iterable[Weight], state: Mapping[str, Tensor]) -> None:
    empty = {weight.name for weight in expected if weight.is_empty}
    known = {weight.name for weight in expected} - empty
    surplus = [name for name, value in state.items() if name not in known and value.numel() > 0]
    if any(name in empty or "compress_" in name for name in surplus):
        raise CheckpointError(
            "this model is compressed (its embedding nets are tables)",
            hint="use the uncompressed checkpoint it was made from",
        )
    if surplus:
        raise CheckpointError(f"the file has a tensor that this model does not: {surplus[0]}")


def _in_file(tensor: Tensor, weight: Weight) -> Tensor:
    """Return a tensor in deepmd-kit's shape; statistics are repeated over neighbour slots."""
    if weight.is_statistic:
        return tensor.expand(weight.shape).contiguous()
    return tensor.reshape(weight.shape)


_BFLOAT16 = np.dtype("V2")  # NumPy has no such type; in HDF5 files it is two opaque bytes


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return an array of the same numbers.

    bfloat16 becomes float32, which holds its numbers exactly: deepmd-kit's readers turn that back
    into bfloat16, while they cannot read the opaque bytes that they themselves write.
    """
    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        values = values.to(torch.float32)
    return np.asarray(values.numpy())


def to_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor of the same numbers and type, with a memory of its own.

    Raises:
        TypeError: If the array holds no numbers.
    """
    array = np.array(array, order="C", copy=True)
    # JAX has a NumPy type of its own for bfloat16, whose name says so.
    if array.dtype == _BFLOAT16 or array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
