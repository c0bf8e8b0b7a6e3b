"""Copy the weights of a branch into a model whose elements may be others.

docs/deepmd-format.md, 6.9.
"""

# Axes:  T types of the model   S types of the source

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dpa2.convert.deepmd import ATOMIC, DESCRIPTOR, FITTING, load_deepmd_state, to_deepmd_state
from dpa2.finetune.origin import Origin
from dpa2.model.energy import EnergyModel
from schemas.errors import CheckpointError

TensorState = Literal["loaded", "rows added", "new"]
"""`rows added`: loaded for the elements that the checkpoint knows, new for the others."""

TYPE_MATRIX = DESCRIPTOR + "type_embedding.embedding.embedding_net.layers.0.matrix"

_NEW_ROW = {ATOMIC + "out_bias": 0.0, ATOMIC + "out_std": 1.0, FITTING + "bias_atom_e": 0.0}
"""What an element starts with that the checkpoint does not know. The other tensors keep the row
that they have in the fresh model: seeded weights, statistics of the new data."""


@dataclass(frozen=True, slots=True)
class TransferredTensor:
    """What became of one tensor of the model.

    Attributes:
        name: deepmd-kit's, without the `model.<branch>.` prefix.
        num_elements: How many numbers it has.
        state: Where they are from.
    """

    name: str
    num_elements: int
    state: TensorState


def transfer(
    model: EnergyModel, origin: Origin, tensors: Mapping[str, Tensor]
) -> list[TransferredTensor]:
    """Copy the descriptor and, unless it is to be random, everything else into `model`.

    Args:
        model: Fresh, with deepmd-kit's initial weights; where the checkpoint lacks elements, with
            the statistics of the new data.
        origin: Where the tensors are from.
        tensors: The branch's, keys without the `model.<branch>.` prefix.

    Returns:
        A record of every tensor of the model, networks listed once; not of `min_nbor_dist`, a
        number that nothing computes with.

    Raises:
        CheckpointError: When a tensor is missing or has another shape.
    """
    fresh = to_deepmd_state(model)
    taken: OrderedDict[str, Tensor] = OrderedDict()
    record = []
    for name, own in fresh.items():
        state: TensorState = "new"
        taken[name] = own
        if origin.fitting != "random" or name.startswith(DESCRIPTOR):
            theirs = _find(name, tensors, origin, is_empty=own.numel() == 0)
            axis = _type_axis(name, model)
            if axis is not None and tuple(model.type_map) != origin.type_map:
                _check_shape(name, own, theirs, origin, axis)
                taken[name] = _by_element(name, own, theirs, axis, model.type_map, origin)
                state = "rows added" if origin.new_elements(model.type_map) else "loaded"
            else:
                _check_shape(name, own, theirs, origin)
                taken[name], state = theirs, "loaded"
        if own.ndim and own.numel() and "._networks." not in name:
            record.append(TransferredTensor(name, own.numel(), state))
    load_deepmd_state(model, taken)
    return record


def _type_axis(name: str, model: EnergyModel) -> int | None:
    """Return the axis of a tensor that runs over the types, if any."""
    if name in (ATOMIC + "out_bias", ATOMIC + "out_std"):
        return 1
    if name == FITTING + "bias_atom_e" or name.endswith((".mean", ".stddev")):
        return 0
    if name == TYPE_MATRIX and not model.config.descriptor.use_econf_tebd:
        return 0
    return None


def _by_element(
    name: str,
    own: Tensor,
    theirs: Tensor,
    axis: int,
    type_map: Sequence[str],
    origin: Origin,
) -> Tensor:
    """Return `own` with the slices of known elements replaced by the checkpoint's."""
    if name in _NEW_ROW:
        own = torch.full_like(own, _NEW_ROW[name])
    known = [i for i, element in enumerate(type_map) if element in origin.type_map]
    places = [origin.type_map.index(type_map[i]) for i in known]
    taken = theirs.to(own.dtype)
    if name == TYPE_MATRIX:
        # A skip connection depends on the number of types: what an element is embedded as shall
        # be what it was, not the matrix.
        taken = taken + _skip(taken)
        taken = taken[places] - _skip(own)[known]
    else:
        taken = taken.index_select(axis, torch.tensor(places))
    return own.cpu().index_copy(axis, torch.tensor(known), taken)


def _skip(matrix_TC: Tensor) -> Tensor:
    """Return what the skip connection of the type embedding adds to the matrix (T, C)."""
    num_types, width = matrix_TC.shape
    unit = torch.eye(num_types, dtype=matrix_TC.dtype)
    if width == num_types:
        return unit
    return torch.cat([unit, unit], -1) if width == 2 * num_types else torch.zeros_like(matrix_TC)


def _find(name: str, tensors: Mapping[str, Tensor], origin: Origin, *, is_empty: bool) -> Tensor:
    if name in tensors:
        return tensors[name]
    if is_empty:
        return torch.zeros(0)
    raise CheckpointError(
        f"{origin.name} has no {name}, which the model of the input has",
        hint="take the networks' sections from the checkpoint: --use-pretrain-script",
    )


def _check_shape(
    name: str, own: Tensor, theirs: Tensor, origin: Origin, axis: int | None = None
) -> None:
    expected = list(own.shape)
    if axis is not None:
        expected[axis] = len(origin.type_map)
    if list(theirs.shape) != expected:
        raise CheckpointError(
            f"{name} has shape {tuple(theirs.shape)} in {origin.name}; the model of the input "
            f"needs {tuple(expected)}",
            hint="take the networks' sections from the checkpoint: --use-pretrain-script",
        )
