"""Where every part of a model about to be fine-tuned is from: a table and a JSON document."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpa2.formats.weights import deepmd_parameters
from dpa2.model.energy import EnergyModel
from dpa2.training.bias import BiasShift
from dpa2.training.transfer import Origin, TransferredTensor
from schemas.input.weights import ATOMIC, DESCRIPTOR, FITTING

GROUPS = (
    "type embedding",
    "repinit",
    "three-body",
    "repformer",
    "fitting net",
    "statistics",
    "energy bias",
)
"""The parts of a model, in the order of the way through it."""

_BIAS = (ATOMIC + "out_bias", ATOMIC + "out_std", FITTING + "bias_atom_e")
_PREFIXES = {
    DESCRIPTOR + "type_embedding.": "type embedding",
    DESCRIPTOR + "repinit.": "repinit",
    DESCRIPTOR + "g1_shape_tranform.": "repinit",
    DESCRIPTOR + "tebd_transform.": "repinit",
    DESCRIPTOR + "repinit_three_body.": "three-body",
    DESCRIPTOR + "repformers.": "repformer",
    FITTING + "filter_layers.": "fitting net",
}


@dataclass(frozen=True, slots=True)
class GroupOrigin:
    """What is known of one part of the model.

    Attributes:
        group: Name of the part.
        state: `loaded`, `new`, `rows added`, or how many tensors are which.
        source: The checkpoint and its branch; empty where nothing is loaded.
        num_tensors: How many tensors it has.
        num_elements: How many numbers they have.
        num_frozen: How many of these belong to parameters that are not trained.
    """

    group: str
    state: str
    source: str
    num_tensors: int
    num_elements: int
    num_frozen: int


@dataclass(frozen=True)
class Provenance:
    """Where one branch starts.

    Attributes:
        branch: The branch of the input; `Default` for a single task.
        origin: The branch of the checkpoint, and what becomes of the fitting net.
        groups: The parts of the model.
        new_elements: Elements that the checkpoint does not know.
        dropped_elements: Elements of the checkpoint that the input does not have.
        bias: How the energies of the elements were fitted; None for a resumed branch.
    """

    branch: str
    origin: Origin
    groups: list[GroupOrigin]
    new_elements: list[str]
    dropped_elements: list[str]
    bias: BiasShift | None

    def lines(self) -> list[str]:
        """Return the table for a person."""
        rows = [("part", "from", "state", "tensors", "numbers")]
        rows += [_row(group) for group in self.groups]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        shown = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        shown.insert(1, "  ".join("-" * width for width in widths))
        return [f"Start of {self.branch}: {_summary(self)}", *shown, *self._element_lines()]

    def _element_lines(self) -> list[str]:
        lines = []
        if self.new_elements:
            names = ", ".join(self.new_elements)
            lines.append(f"{names}: not in the checkpoint, their rows are new")
        if self.dropped_elements:
            lines.append(f"{', '.join(self.dropped_elements)}: in the checkpoint only, dropped")
        return lines + (shift_lines(self.bias) if self.bias is not None else [])

    def document(self) -> dict[str, Any]:
        """Return everything for `--json`."""
        return {
            "branch": self.branch,
            "file": self.origin.file,
            "source_branch": self.origin.branch,
            "fitting_net": self.origin.fitting,
            "new_elements": self.new_elements,
            "dropped_elements": self.dropped_elements,
            "groups": [
                {
                    "group": item.group,
                    "state": item.state,
                    "source": item.source or None,
                    "tensors": item.num_tensors,
                    "numbers": item.num_elements,
                    "frozen": item.num_frozen,
                }
                for item in self.groups
            ],
            "energy_bias": None if self.bias is None else self.bias.document(),
        }


def provenance(
    branch: str,
    model: EnergyModel,
    origin: Origin,
    record: Sequence[TransferredTensor],
    bias: BiasShift | None,
) -> Provenance:
    """Sum up where a branch starts.

    Args:
        branch: Its name in the input.
        model: The model, frozen where it is to be.
        origin: The branch of the checkpoint.
        record: What `transfer` did.
        bias: What `adjust_bias` did, or None.
    """
    parameters = {name: p for _, name, p in deepmd_parameters(model) if p is not None}
    frozen = {name for name, parameter in parameters.items() if not parameter.requires_grad}
    members: dict[str, list[TransferredTensor]] = {group: [] for group in GROUPS}
    for tensor in record:
        members[group_of(tensor.name)].append(tensor)
    groups = [
        GroupOrigin(
            group,
            _state(group, tensors, bias),
            "" if all(tensor.state == "new" for tensor in tensors) else origin.name,
            len(tensors),
            sum(tensor.num_elements for tensor in tensors),
            sum(tensor.num_elements for tensor in tensors if tensor.name in frozen),
        )
        for group, tensors in members.items()
        if tensors
    ]
    return Provenance(
        branch,
        origin,
        groups,
        origin.new_elements(model.type_map),
        origin.dropped_elements(model.type_map),
        bias,
    )


def group_of(name: str) -> str:
    """Return the part of the model to which a tensor belongs.

    Args:
        name: deepmd-kit's, without the `model.<branch>.` prefix.
    """
    if name in _BIAS:
        return "energy bias"
    if name.endswith((".mean", ".stddev")):
        return "statistics"
    return next(
        (group for start, group in _PREFIXES.items() if name.startswith(start)), "statistics"
    )


def shift_lines(bias: BiasShift) -> list[str]:
    """Return the energies of the elements before and after, one line each."""
    how = {
        "change": "shifted by what the model leaves over",
        "set": "fitted anew",
        "none": "left as they are",
    }[bias.mode]
    if bias.mode == "none":
        return [f"Energies of the elements are {how}."]
    lines = [f"Energies of the elements, {how} in {bias.num_frames} frames (eV):"]
    width = max(len(name) for name in bias.type_map)
    for i, name in enumerate(bias.type_map):
        seen = "" if bias.observed[i] else "  (not in the data)"
        if bias.preset and bias.preset[i]:
            seen = "  (preset_out_bias)"
        lines.append(
            f"  {name:<{width}}  {bias.before[i]:>16.8f} -> {bias.after[i]:>16.8f}"
            f"  {bias.shift[i]:>+16.8f}{seen}"
        )
    return lines


def document(branches: Mapping[str, Provenance]) -> list[dict[str, Any]]:
    """Return the documents of all branches."""
    return [branch.document() for branch in branches.values()]


def _summary(item: Provenance) -> str:
    return {
        "copied": f"all of {item.origin.name}, with a new energy bias",
        "random": f"the descriptor of {item.origin.name}, with a random fitting net",
        "resumed": f"all of {item.origin.name}, as it is",
    }[item.origin.fitting]


def _state(group: str, tensors: Iterable[TransferredTensor], bias: BiasShift | None) -> str:
    counts: dict[str, int] = {}
    for tensor in tensors:
        counts[tensor.state] = counts.get(tensor.state, 0) + 1
    state = ", ".join(
        name if len(counts) == 1 else f"{number} {name}" for name, number in counts.items()
    )
    if group == "energy bias" and bias is not None and bias.mode != "none":
        state = "fitted" if bias.mode == "set" else f"{state}, shifted"
    return state


def _row(item: GroupOrigin) -> tuple[str, str, str, str, str]:
    state = item.state
    if item.num_frozen:
        whole = item.num_frozen == item.num_elements
        state += ", frozen" if whole else f", {item.num_frozen} of {item.num_elements} frozen"
    return item.group, item.source or "-", state, str(item.num_tensors), str(item.num_elements)
