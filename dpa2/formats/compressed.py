"""Compressed models as deepmd-kit's files hold them: repinit's table, and what types contribute.

docs/deepmd-format.md, 11.
"""

import math
from collections.abc import Mapping, MutableMapping

import torch
from torch import Tensor

from dpa2.model.embedding_table import NUM_POWERS, EmbeddingTable, Grid
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError
from schemas.input.weights import DESCRIPTOR

# Axes:  T types   I intervals   C channels

_TABLE, _GRID, _TYPES = (
    f"{DESCRIPTOR}repinit.{name}"
    for name in ("compress_data.0", "compress_info.0", "type_embd_data")
)
_NOT_TOGETHER = "the file is damaged; compress the model it was made from again"
_UNCHECKED = -1.0
"""How often deepmd-kit's TensorFlow backend looks for inputs beyond the table: never."""


def is_compressed(model: EnergyModel) -> bool:
    """Tell whether a table stands for repinit's embedding network."""
    return model.descriptor.repinit.embedding.lookup is not None


def table_tensors(model: EnergyModel) -> dict[str, Tensor]:
    """Return what a compressed model's state dictionary has in place of empty tensors."""
    lookup = model.descriptor.repinit.embedding.lookup
    if lookup is None:
        return {}
    table, grid = lookup.in_file(), [*lookup.grid(), _UNCHECKED]
    return {
        _TABLE: table,
        _GRID: torch.tensor(grid, dtype=table.dtype),
        _TYPES: _of_types(model),
    }


def has_table(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dictionary is one of a compressed model."""
    return _TABLE in state and state[_TABLE].numel() > 0


def take_table(state: MutableMapping[str, Tensor]) -> dict[str, Tensor]:
    """Take what makes a model compressed out of a state dictionary; nothing of an uncompressed one.

    Raises:
        CheckpointError: If a part of it is missing.
    """
    names = (_TABLE, _GRID, _TYPES)
    filled = [name for name in names if name in state and state[name].numel()]
    if filled and len(filled) < len(names):
        lacking = next(name for name in names if name not in filled)
        raise CheckpointError(f"this compressed model lacks {lacking}", hint=_NOT_TOGETHER)
    return {name: state.pop(name) for name in filled}


def attach_table(model: EnergyModel, tensors: dict[str, Tensor]) -> None:
    """Let a table stand for repinit's embedding network.

    Args:
        model: With all its weights; unchanged without tensors.
        tensors: What `take_table` returned.

    Raises:
        CheckpointError: If the table is none of this model.
    """
    if not tensors:
        return
    embedding = model.descriptor.repinit.embedding
    if not embedding.strip:
        raise CheckpointError(
            "this model is compressed although descriptor.repinit.tebd_input_mode is `concat`",
            hint=_NOT_TOGETHER,
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float64, torch.float32):
            raise CheckpointError(f"{name} holds {tensor.dtype} numbers", hint=_NOT_TOGETHER)
    grid, table = _grid(tensors[_GRID]), tensors[_TABLE]
    num_channels = model.config.descriptor.repinit.neuron[-1]
    num_intervals, width = sum(grid.counts()), num_channels * NUM_POWERS
    # deepmd-kit adds the two counts before it rounds: there may be one interval more.
    if table.shape[1:] != (width,) or len(table) - num_intervals not in (0, 1):
        raise CheckpointError(
            f"{_TABLE} has shape {tuple(table.shape)} in the file and {(num_intervals, width)} in "
            "the model",
            hint=_NOT_TOGETHER,
        )
    _check_types(tensors[_TYPES], _of_types(model))
    coefficients = table.view(-1, num_channels, NUM_POWERS)
    _check_joints(grid, coefficients)
    embedding.lookup = EmbeddingTable(grid, coefficients.to(model.descriptor.dtype))


def _check_joints(grid: Grid, coefficients_ICP: Tensor) -> None:
    """Check that each interval ends with the values with which the next begins."""
    widths_I = coefficients_ICP.new_full((len(coefficients_ICP),), grid.coarse)
    widths_I[: grid.counts()[0]] = grid.fine
    powers_IP = widths_I[:, None] ** torch.arange(NUM_POWERS)
    terms_ICP = coefficients_ICP * powers_IP[:, None]
    gaps_IC = (terms_ICP.sum(dim=2)[:-1] - coefficients_ICP[1:, :, 0]).abs()
    # Tables in double precision may have been rounded to single precision before.
    allowed = 1e3 * torch.finfo(torch.float32).eps * terms_ICP.abs().max()
    if not bool((gaps_IC <= allowed).all()):
        raise CheckpointError(
            f"{_TABLE} has gaps between intervals, or values that are no numbers: it is none of "
            f"the grid in {_GRID}",
            hint=_NOT_TOGETHER,
        )


def _check_types(given: Tensor, expected: Tensor) -> None:
    small = 1e3 * torch.finfo(given.dtype).eps
    same = given.shape == expected.shape and given.dtype == expected.dtype
    if not same or not torch.allclose(given, expected, rtol=small, atol=small):
        raise CheckpointError(
            f"{_TYPES} is not what the model's networks make of its types", hint=_NOT_TOGETHER
        )


def _grid(info: Tensor) -> Grid:
    # By their decimals: in single precision 0.01 is a little less, and there would be one interval
    # more or less than there are.
    numbers = [float(str(number)) for number in info.flatten().numpy()]
    if len(numbers) == len(Grid._fields) + 1 and all(map(math.isfinite, numbers)):
        grid = Grid(*numbers[:-1])
        ordered = grid.lower < grid.upper < grid.end and min(grid.fine, grid.coarse) > 0
        if ordered and min(grid.counts()) > 0:
            return grid
    raise CheckpointError(f"{_GRID} describes no table: {numbers}", hint=_NOT_TOGETHER)


def _of_types(model: EnergyModel) -> Tensor:
    """Return what deepmd-kit keeps of types: a row a pair, centre first, with a type for padding.

    Types of the neighbour alone have a row a type.
    """
    embedding = model.descriptor.repinit.embedding
    with torch.no_grad():
        tebd_TE = model.descriptor.type_embedding()
        padded_TE = torch.cat([tebd_TE, torch.zeros_like(tebd_TE[:1])])
        rows = embedding.table(padded_TE)
    T = len(padded_TE)
    table_TTC = rows.view(T, T, rows.shape[-1])
    return (
        table_TTC[:, 0].clone() if embedding.one_side else table_TTC.transpose(0, 1).flatten(0, 1)
    )
