"""Weights of a frozen model: deepmd-kit's names for its readers, constants for our network.

docs/deepmd-format.md, 8.1.

deepmd-kit rebuilds its own model from a frozen file's state dict (`dp change-bias`,
`convert-backend`), so that must have exactly its keys. Our network therefore holds its tensors as
constants, which no state dict lists, and a tree of modules without code carries the same tensors
under deepmd-kit's names.
"""

from typing import List

import torch
from torch import Tensor, nn

from dpa2.formats.weights import held_tensors, to_deepmd_state
from dpa2.model.energy import EnergyModel
from schemas.input.weights import weights

# ruff: noqa: SLF001 - the tables of tensors and children of torch's modules


class NamedTensors(nn.Module):
    """A branch of a state dict: tensors and further branches."""

    def branch(self, name: str) -> "NamedTensors":
        """Return the branch of that name, made where it does not exist."""
        if name not in self._modules:
            self.add_module(name, NamedTensors())
        found = self._modules[name]
        assert isinstance(found, NamedTensors)
        return found


def named_weights(model: EnergyModel) -> NamedTensors:
    """Return the model's tensors in a tree whose state dict is deepmd-kit's."""
    root = NamedTensors()
    held, state = held_tensors(model), to_deepmd_state(model)
    made: dict[str, Tensor] = {}
    for weight in weights(model.config):
        key = weight.name if weight.is_empty else weight.place
        if key not in made:
            tensor = state[weight.name].detach()
            if not weight.is_empty and held[weight.place].shape == tensor.shape:
                # The very storage our network uses, so that the file holds it once.
                tensor = held[weight.place].detach()
            made[key] = nn.Parameter(tensor) if weight.is_parameter else tensor
        _attach(root, weight.name, made[key])
    return root


def _attach(root: NamedTensors, key: str, tensor: Tensor) -> None:
    *path, name = key.split(".")
    holder = root
    for part in path:
        holder = holder.branch(part)
    if isinstance(tensor, nn.Parameter):
        holder.register_parameter(name, tensor)
    else:
        holder.register_buffer(name, tensor)


def make_constant(module: nn.Module) -> None:
    """Turn all parameters and buffers below `module` into plain attributes, in place.

    TorchScript saves them and moves them to a device on loading, but state dicts leave them out.
    """
    for child in module.modules():
        for tensors in (child._parameters, child._buffers):
            for name, tensor in list(tensors.items()):
                del tensors[name]
                setattr(child, name, None if tensor is None else tensor.detach())
        for name, grandchild in list(child._modules.items()):
            if isinstance(grandchild, nn.ParameterList):
                del child._modules[name]
                values = [tensor.detach() for tensor in grandchild]
                setattr(child, name, torch.jit.Attribute(values, List[Tensor]))
