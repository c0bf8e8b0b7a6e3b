# ruff: noqa: SLF001 - the tables of tensors and children of torch's modules
"""Weights of a frozen model: named as deepmd-kit names them, plain constants in our network.

deepmd-kit rebuilds its own model from a frozen file's state dict (`dp change-bias`,
`convert-backend`), so that must have exactly its keys. Our network therefore holds its tensors as
constants, which no state dict lists, and a tree of modules without code carries the same tensors
under deepmd-kit's names.
"""

from typing import List

import torch
from torch import Tensor, nn

from dpa2.convert.deepmd import entries, to_deepmd_state
from dpa2.model.energy import EnergyModel


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
    is_parameter: dict[str, bool] = {}
    twin_of: dict[str, str] = {}
    shared: dict[str, Tensor] = {}
    for entry in entries(model):
        is_parameter[entry.name] = entry.is_parameter
        if entry.tensor is not None and tuple(entry.tensor.shape) == entry.shape:
            # The very storage our network uses, so that the file holds it once.
            shared[entry.name] = entry.tensor.detach()
        if entry.twin is not None:
            twin_of[entry.twin] = entry.name
    root = NamedTensors()
    made: dict[str, Tensor] = {}
    for key, value in to_deepmd_state(model).items():
        name = twin_of.get(key, key)
        if name not in made:
            tensor = shared.get(name, value.detach())
            made[name] = nn.Parameter(tensor) if is_parameter[name] else tensor
        _attach(root, key, made[name])
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
