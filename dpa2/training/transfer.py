"""Copy weights of a checkpoint, element by element, into the models to be fine-tuned."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError, ConfigError
from schemas.check.finetune import check_start, targets_of
from schemas.input.root import Input, Link, MultiTaskInput
from schemas.input.start import DEFAULT_BRANCH, Departure, Source, Start
from schemas.input.weights import ATOMIC, DESCRIPTOR, FITTING

NO_BRANCH_CHOSEN = "ZOO612"
"""A warning about inputs for deepmd-kit, which goes on at random."""

FittingNet = Literal["copied", "random", "resumed"]
"""`copied`: from the checkpoint, with a new energy bias; `random`: drawn anew; `resumed`: from the
checkpoint, and the branch goes on as it was."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a branch of the input starts.

    Attributes:
        file: The checkpoint.
        branch: The branch in it.
        type_map: Elements of that branch.
        fitting: What becomes of the fitting net and the energy bias.
    """

    file: str
    branch: str
    type_map: tuple[str, ...]
    fitting: FittingNet

    @property
    def name(self) -> str:
        """The checkpoint and, where it has several branches, the branch."""
        file = Path(self.file).name
        return file if self.branch == DEFAULT_BRANCH else f"{file}, branch {self.branch}"

    def new_elements(self, type_map: list[str]) -> list[str]:
        """Return the elements of the input that the checkpoint does not know."""
        return [name for name in type_map if name not in self.type_map]

    def dropped_elements(self, type_map: list[str]) -> list[str]:
        """Return the elements of the checkpoint that the input does not have."""
        return [name for name in self.type_map if name not in type_map]


def find_origins(config: Input | MultiTaskInput, start: Start) -> dict[str, Origin]:
    """Return the origin of every branch of the input, by its name; `Default` for a single task.

    The choice and what is wrong with it are the validator's. It is deepmd-kit's choice, but where
    deepmd-kit draws a random fitting net because no branch is chosen, it is an error here.

    Raises:
        ConfigError: When a branch does not exist or is not chosen, or the input does not fit it.
    """
    targets = targets_of(config)
    for finding in check_start(targets, start):
        if finding.severity == "error" or finding.code == NO_BRANCH_CHOSEN:
            raise ConfigError(finding.message, hint=finding.hint)
    sources = Departure(targets, start).sources
    return {name: _origin(start, source) for name, source in sources.items()}


def _origin(start: Start, source: Source) -> Origin:
    fitting: FittingNet = "copied"
    if source.is_random:
        fitting = "random"
    elif source.is_resumed:
        fitting = "resumed"
    return Origin(start.file, source.branch, tuple(source.section["type_map"]), fitting)


# Axes:  T types of the model   S types of the source


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


def unequal_parts(models: Mapping[str, EnergyModel], links: Sequence[Link]) -> list[str]:
    """Return a warning for each branch whose weights give way to those of the part's owner.

    Args:
        models: The branches, no part shared yet.
        links: What will be shared, the owner first.
    """
    found = []
    for link in links:
        if link.branch == link.owner:
            continue
        ours, owners = (to_deepmd_state(models[name]) for name in (link.branch, link.owner))
        shared = [name for name in ours if name in owners and _is_shared(name, link)]
        if not all(torch.equal(ours[name], owners[name]) for name in shared):
            found.append(
                f"warning: branch {link.branch} shares its {link.component} with {link.owner}, and "
                f"so starts with the one of {link.owner}: what is loaded or drawn for it differs"
            )
    return found


def _is_shared(name: str, link: Link) -> bool:
    if link.component == "fitting_net":
        return name.startswith(FITTING + "filter_layers.")
    if link.level > 0:
        return name.startswith(DESCRIPTOR + "type_embedding.")
    return name.startswith(DESCRIPTOR) and not name.startswith(DESCRIPTOR + "tebd_transform.")
