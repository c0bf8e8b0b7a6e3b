"""Fine-tuning: every branch takes over the weights of a checkpoint's branch, element by element.

docs/deepmd-format.md, 6.9.
"""

# Axes:  T types of the model   S types of the source

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dpa2.formats.weights import deepmd_parameters, load_deepmd_state, to_deepmd_state
from dpa2.model.energy import EnergyModel
from dpa2.training.energy_bias import BiasShift
from schemas.base.errors import CheckpointError
from schemas.input.root import Link
from schemas.input.start import Source
from schemas.input.weights import ATOMIC, DESCRIPTOR, FITTING

TensorState = Literal["loaded", "rows added", "new"]
"""`rows added`: loaded for the elements that the checkpoint knows, new for the others."""

TYPE_MATRIX = DESCRIPTOR + "type_embedding.embedding.embedding_net.layers.0.matrix"

_NEW_ROW = {ATOMIC + "out_bias": 0.0, ATOMIC + "out_std": 1.0, FITTING + "bias_atom_e": 0.0}
"""What an element starts with that the checkpoint does not know. The other tensors keep the row
that they have in the fresh model: seeded weights, statistics of the new data."""

_PREFIXES = {
    DESCRIPTOR + "type_embedding.": "type embedding",
    DESCRIPTOR + "repinit.": "repinit",
    DESCRIPTOR + "g1_shape_tranform.": "repinit",
    DESCRIPTOR + "tebd_transform.": "repinit",
    DESCRIPTOR + "repinit_three_body.": "three-body",
    DESCRIPTOR + "repformers.": "repformer",
    FITTING + "filter_layers.": "fitting net",
}
GROUPS = (*dict.fromkeys(_PREFIXES.values()), "statistics", "energy bias")
"""The parts of a model, in the order of the way through it."""

_SUMMARIES = {
    "copied": "all of {}, with a new energy bias",
    "random": "the descriptor of {}, with a random fitting net",
    "resumed": "all of {}, as it is",
}


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

    @property
    def group(self) -> str:
        """The part of the model to which it belongs."""
        if self.name in _NEW_ROW:
            return "energy bias"
        if self.name.endswith((".mean", ".stddev")):
            return "statistics"
        groups = (group for start, group in _PREFIXES.items() if self.name.startswith(start))
        return next(groups, "statistics")


def transfer(
    model: EnergyModel, source: Source, tensors: Mapping[str, Tensor]
) -> list[TransferredTensor]:
    """Copy the descriptor and, unless it is to be random, everything else into `model`.

    Args:
        model: Fresh, with deepmd-kit's initial weights; where the checkpoint lacks elements, with
            the statistics of the new data.
        source: Where the tensors are from.
        tensors: The branch's, keys without the `model.<branch>.` prefix.

    Returns:
        A record of every tensor of the model, networks listed once; not of `min_nbor_dist`, a
        number that nothing computes with.

    Raises:
        CheckpointError: When a tensor is missing or has another shape.
    """
    taken: OrderedDict[str, Tensor] = OrderedDict()
    record = []
    for name, own in to_deepmd_state(model).items():
        state: TensorState = "new"
        taken[name] = own
        if source.fitting != "random" or name.startswith(DESCRIPTOR):
            axis = None if model.type_map == source.type_map else _type_axis(name, model)
            taken[name] = theirs = _fitting_tensor(name, own, tensors, source, axis)
            state = "loaded"
            if axis is not None:
                taken[name] = _by_element(name, own, theirs, axis, model.type_map, source)
                state = "rows added" if source.new_elements(model.type_map) else "loaded"
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
    source: Source,
) -> Tensor:
    """Return `own` with the slices of known elements replaced by the checkpoint's."""
    if name in _NEW_ROW:
        own = torch.full_like(own, _NEW_ROW[name])
    known = [i for i, element in enumerate(type_map) if element in source.type_map]
    places = [source.type_map.index(type_map[i]) for i in known]
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


def _fitting_tensor(
    name: str, own: Tensor, tensors: Mapping[str, Tensor], source: Source, axis: int | None
) -> Tensor:
    """Return the checkpoint's tensor of a name; its `axis` may be as long as its list of types."""
    hint = "take the networks' sections from the checkpoint: --use-pretrain-script"
    if name not in tensors and own.numel():
        raise CheckpointError(
            f"{source.name} has no {name}, which the model of the input has", hint=hint
        )
    theirs = tensors.get(name, torch.zeros(0))
    expected = list(own.shape)
    if axis is not None:
        expected[axis] = len(source.type_map)
    if list(theirs.shape) != expected:
        raise CheckpointError(
            f"{name} has shape {tuple(theirs.shape)} in {source.name}; the model of the input "
            f"needs {tuple(expected)}",
            hint=hint,
        )
    return theirs


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


@dataclass(frozen=True, slots=True)
class ModelPart:
    """One part of a model: how much of it comes from where.

    Attributes:
        group: Name of the part.
        state: `loaded`, `new`, `rows added`, or how many tensors are which.
        source: The checkpoint and its branch; None where nothing is loaded.
        tensors: How many tensors it has.
        numbers: How many numbers they have.
        frozen: How many of these belong to parameters that are not trained.
    """

    group: str
    state: str
    source: str | None
    tensors: int
    numbers: int
    frozen: int

    def row(self) -> tuple[str, str, str, str, str]:
        """Return the cells of the table."""
        state = self.state
        if self.frozen:
            whole = self.frozen == self.numbers
            state += ", frozen" if whole else f", {self.frozen} of {self.numbers} frozen"
        return (self.group, self.source or "-", state, str(self.tensors), str(self.numbers))


@dataclass(frozen=True)
class Provenance:
    """Where every part of a branch about to be fine-tuned is from.

    Attributes:
        branch: The branch of the input; `Default` for a single task.
        source: The branch of the checkpoint, and what becomes of the fitting net.
        groups: The parts of the model.
        new_elements: Elements that the checkpoint does not know.
        dropped_elements: Elements of the checkpoint that the input does not have.
        bias: How the energies of the elements were fitted; None for a resumed branch.
    """

    branch: str
    source: Source
    groups: list[ModelPart]
    new_elements: list[str]
    dropped_elements: list[str]
    bias: BiasShift | None

    def lines(self) -> list[str]:
        """Return the table for a person."""
        rows = [("part", "from", "state", "tensors", "numbers"), *(g.row() for g in self.groups)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        cells = [f"{{:{'<' if i < 3 else '>'}{width}}}" for i, width in enumerate(widths)]
        shown = ["  ".join(cells).format(*row) for row in rows]
        shown.insert(1, "  ".join("-" * width for width in widths))
        summary = _SUMMARIES[self.source.fitting].format(self.source.name)
        lines = [f"Start of {self.branch}: {summary}", *shown]
        if self.new_elements:
            names = ", ".join(self.new_elements)
            lines.append(f"{names}: not in the checkpoint, their rows are new")
        if self.dropped_elements:
            lines.append(f"{', '.join(self.dropped_elements)}: in the checkpoint only, dropped")
        return lines + (self.bias.lines() if self.bias is not None else [])

    def document(self) -> dict[str, Any]:
        """Return everything for `--json`."""
        return {
            "branch": self.branch,
            "file": self.source.file,
            "source_branch": self.source.branch,
            "fitting_net": self.source.fitting,
            "new_elements": self.new_elements,
            "dropped_elements": self.dropped_elements,
            "groups": [asdict(group) for group in self.groups],
            "energy_bias": None if self.bias is None else self.bias.document(),
        }


def provenance(
    branch: str,
    model: EnergyModel,
    source: Source,
    record: Sequence[TransferredTensor],
    bias: BiasShift | None,
) -> Provenance:
    """Sum up where a branch starts.

    Args:
        branch: Its name in the input.
        model: The model, frozen where it is to be.
        source: The branch of the checkpoint.
        record: What `transfer` did.
        bias: What `adjust_bias` did, or None.
    """
    parameters = deepmd_parameters(model)
    frozen = {name for _, name, p in parameters if p is not None and not p.requires_grad}
    members: dict[str, list[TransferredTensor]] = {group: [] for group in GROUPS}
    for tensor in record:
        members[tensor.group].append(tensor)
    groups = [
        ModelPart(
            group,
            _state(group, tensors, bias),
            None if all(tensor.state == "new" for tensor in tensors) else source.name,
            len(tensors),
            sum(tensor.num_elements for tensor in tensors),
            sum(tensor.num_elements for tensor in tensors if tensor.name in frozen),
        )
        for group, tensors in members.items()
        if tensors
    ]
    elements = model.type_map
    new, dropped = source.new_elements(elements), source.dropped_elements(elements)
    return Provenance(branch, source, groups, new, dropped, bias)


def _state(group: str, tensors: Sequence[TransferredTensor], bias: BiasShift | None) -> str:
    counts = Counter(tensor.state for tensor in tensors)
    state = ", ".join(
        name if len(counts) == 1 else f"{number} {name}" for name, number in counts.items()
    )
    if group == "energy bias" and bias is not None and bias.mode != "none":
        return "fitted" if bias.mode == "set" else f"{state}, shifted"
    return state
