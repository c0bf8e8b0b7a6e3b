"""What a frozen model holds besides its network: weights under deepmd-kit's names, and answers.

docs/deepmd-format.md, 8.1.

deepmd-kit rebuilds its own model from a frozen file's state dict (`dp change-bias`,
`convert-backend`), so that must have exactly its keys. Our network therefore holds its tensors as
constants, which no state dict lists, and a tree of modules without code carries the same tensors
under deepmd-kit's names.
"""

import json
from typing import Any, Dict, List, Optional

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


# ruff: noqa: ARG002 - deepmd-kit passes a name that has one meaning here


class ModelFacts(nn.Module):
    """Scripted methods that return constants.

    Args:
        model: The model to be frozen.
        model_params: The `model` section it was trained with.
    """

    # TorchScript cannot tell the type of an empty list without these.
    observed_types: List[str]
    sel_type: List[int]
    min_nbor_dist: Tensor

    def __init__(self, model: EnergyModel, model_params: Dict[str, Any]) -> None:
        super().__init__()
        self.register_buffer("min_nbor_dist", model.min_nbor_dist.detach().clone())
        self.rcut = float(model.rcut)
        self.nsel = int(model.cutoffs().nsel)
        self.type_map = list(model.type_map)
        self.num_fparam = model.fitting.num_fparam
        self.num_aparam = model.fitting.num_aparam
        self.defaults_fparam = model.fitting.has_default_fparam
        self.model_def_script = json.dumps(model_params)
        observed = (model_params.get("info") or {}).get("observed_type")
        self.observed_types = list(self.type_map if observed is None else observed)
        excluded = model.config.atom_exclude_types
        self.sel_type = [k for k in range(len(self.type_map)) if k not in excluded]

    @torch.jit.export
    def get_rcut(self) -> float:
        """Return the cutoff, Å."""
        return self.rcut

    @torch.jit.export
    def get_sel(self) -> List[int]:
        """Return the neighbour capacity, one entry for all types."""
        return [self.nsel]

    @torch.jit.export
    def get_nsel(self) -> int:
        """Return the neighbour capacity."""
        return self.nsel

    @torch.jit.export
    def get_nnei(self) -> int:
        """Return the neighbour capacity."""
        return self.nsel

    @torch.jit.export
    def get_ntypes(self) -> int:
        """Return the number of types."""
        return len(self.type_map)

    @torch.jit.export
    def get_type_map(self) -> List[str]:
        """Return the element of each type."""
        return self.type_map

    @torch.jit.export
    def get_sel_type(self) -> List[int]:
        """Return the types whose atoms have energies."""
        return self.sel_type

    @torch.jit.export
    def get_dim_fparam(self) -> int:
        """Return how many frame parameters the model takes."""
        return self.num_fparam

    @torch.jit.export
    def get_dim_aparam(self) -> int:
        """Return how many parameters per atom the model takes."""
        return self.num_aparam

    @torch.jit.export
    def has_default_fparam(self) -> bool:
        """Tell whether fparam may be left out although the model takes it."""
        return self.defaults_fparam

    @torch.jit.export
    def is_aparam_nall(self) -> bool:
        """Tell whether aparam covers ghosts."""
        return False

    @torch.jit.export
    def get_dim_chg_spin(self) -> int:
        """Return how many charge and spin conditions the model takes."""
        return 0

    @torch.jit.export
    def get_default_chg_spin(self) -> Optional[Tensor]:
        """Return the default charge and spin conditions."""
        return None

    @torch.jit.export
    def has_chg_spin_ebd(self) -> bool:
        """Tell whether the model takes charge and spin."""
        return False

    @torch.jit.export
    def has_default_chg_spin(self) -> bool:
        """Tell whether charge and spin have defaults."""
        return False

    @torch.jit.export
    def mixed_types(self) -> bool:
        """Tell whether one neighbour list holds all types."""
        return True

    @torch.jit.export
    def has_message_passing(self) -> bool:
        """Tell whether features of ghosts are needed."""
        return True

    @torch.jit.export
    def need_sorted_nlist_for_lower(self) -> bool:
        """Tell whether `forward_lower` sorts the list it is given."""
        return True

    @torch.jit.export
    def model_output_type(self) -> List[str]:
        """Return what the model predicts for atoms."""
        return ["energy", "mask"]

    @torch.jit.export
    def do_grad_r(self, var_name: Optional[str] = None) -> bool:
        """Tell whether there are forces."""
        return True

    @torch.jit.export
    def do_grad_c(self, var_name: Optional[str] = None) -> bool:
        """Tell whether there are virials."""
        return True

    @torch.jit.export
    def get_min_nbor_dist(self) -> Optional[float]:
        """Return the shortest distance of the training data, Å, where known."""
        distance = float(self.min_nbor_dist.item())
        return None if distance < 0 else distance

    @torch.jit.export
    def get_observed_type_list(self) -> List[str]:
        """Return the elements of the training data."""
        return self.observed_types

    @torch.jit.export
    def get_model_def_script(self) -> str:
        """Return the `model` section as JSON."""
        return self.model_def_script
