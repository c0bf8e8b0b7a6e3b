"""The branches of a checkpoint: what each can describe, and what they have in common."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.checkpoint.header import CheckpointHeader, TensorEntry
from schemas.input.model import OURS, other_kind

_DESCRIPTOR = "atomic_model.descriptor."
_TWIN = "._networks."
"""deepmd-kit lists embedding and fitting nets twice, as `networks` and as `_networks`."""
_BUFFERS = frozenset(
    {
        "min_nbor_dist",
        "out_bias",
        "out_std",
        "mean",
        "stddev",
        "bias_atom_e",
        "fparam_avg",
        "fparam_inv_std",
        "aparam_avg",
        "aparam_inv_std",
        "case_embd",
        "default_fparam_tensor",
        "type_embd_data",
    }
)
"""Tensors that are statistics or constants, not learned (docs/deepmd-format.md, 4.2)."""

Sharing = Literal["all", "part", "none"]


@dataclass(frozen=True, slots=True)
class BranchSummary:
    """What the file says about a branch.

    Attributes:
        name: Its name; `Default` in a single-task file.
        aliases: Other names that it answers to.
        type_map: The elements that it has types for.
        observed: The elements that its training data held; None where the file does not say.
        descriptor: The descriptor's type, such as `dpa2`.
        fitting: The fitting net's type, such as `ener`.
        neuron: Widths of the hidden layers of the fitting net.
        num_parameters: Learned numbers, those shared with other branches included; None where only
            the beginning of the file's description was read.
        shared_with: Branches with the very same descriptor.
        partly_shared_with: Branches with which it has some tensors of the descriptor in common.
        info: What its makers wrote about it.
        other_kind: What it is, if it is no DPA-2 energy model.
    """

    name: str
    aliases: list[str]
    type_map: list[str]
    observed: list[str] | None
    descriptor: str
    fitting: str
    neuron: list[int]
    num_parameters: int | None
    shared_with: list[str]
    partly_shared_with: list[str]
    info: dict[str, Any]
    other_kind: str | None = None


def summarize(header: CheckpointHeader) -> list[BranchSummary]:
    """Describe the branches of a checkpoint, in the order of the file."""
    sections = header.branches
    tensors = {name: header.tensors_of(name) for name in sections}
    summaries = []
    for name, section in sections.items():
        sharing = {
            other: _sharing(header, tensors[name], tensors[other])
            for other in sections
            if other != name
        }
        descriptor, fitting = _part(section, "descriptor"), _part(section, "fitting_net")
        info = dict(_part(section, "info"))
        observed = info.pop("observed_type", None)
        summaries.append(
            BranchSummary(
                name=name,
                aliases=_words(section.get("model_branch_alias")),
                type_map=_words(section.get("type_map")),
                observed=_words(observed) if isinstance(observed, list) else None,
                descriptor=str(descriptor.get("type", "?")),
                fitting=str(fitting.get("type", "ener")),
                neuron=[width for width in fitting.get("neuron", []) if isinstance(width, int)],
                num_parameters=_learned(tensors[name]) if header.complete else None,
                shared_with=[other for other, found in sharing.items() if found == "all"],
                partly_shared_with=[other for other, found in sharing.items() if found == "part"],
                info=info,
                other_kind=other_kind(section),
            )
        )
    return summaries


def not_ours(branches: Sequence[BranchSummary]) -> list[str]:
    """Return a sentence for each kind of model among branches that this engine does not compute."""
    kinds: dict[str, list[str]] = {}
    for branch in branches:
        if branch.other_kind is not None:
            kinds.setdefault(branch.other_kind, []).append(branch.name)
    return [f"{', '.join(names)}: {kind}; {OURS}" for kind, names in kinds.items()]


def num_parameters(header: CheckpointHeader) -> int | None:
    """Return how many learned numbers the file holds, shared ones counted once.

    None where only the beginning of the file's description was read.
    """
    if not header.complete:
        return None
    lengths = {
        entry.place: _length(entry)
        for name, entry in header.tensors.items()
        if _is_learned(name) and _length(entry)
    }
    return sum(lengths.values())


def _sharing(
    header: CheckpointHeader, one: Mapping[str, TensorEntry], other: Mapping[str, TensorEntry]
) -> Sharing:
    names = {
        key
        for key, entry in (*one.items(), *other.items())
        if key.startswith(_DESCRIPTOR) and _length(entry)
    }
    common = [key for key in names if key in one and key in other]
    complete = bool(names) and len(common) == len(names)
    if complete and all(_are_equal(header, one[key], other[key]) for key in common):
        return "all"
    # Equal numbers may be chance here (zeros), one storage is not.
    return "part" if any(one[key].place == other[key].place for key in common) else "none"


def _are_equal(header: CheckpointHeader, one: TensorEntry, other: TensorEntry) -> bool:
    """Tell whether two tensors hold the same numbers: one storage, or one with the same checksum.

    Files that were copied tensor by tensor repeat shared numbers.
    """
    if one.place == other.place:
        return True
    first, second = header.storages[one.storage], header.storages[other.storage]
    same_storage = (first.crc, first.num_bytes) == (second.crc, second.num_bytes)
    return same_storage and one.place[1:] == other.place[1:]


def _learned(tensors: Mapping[str, TensorEntry]) -> int:
    return sum(_length(entry) for key, entry in tensors.items() if _is_learned(key))


def _is_learned(name: str) -> bool:
    return name.rpartition(".")[2] not in _BUFFERS and _TWIN not in name


def _length(entry: TensorEntry) -> int:
    return math.prod(entry.shape)


def _part(section: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = section.get(name)
    return found if isinstance(found, dict) else {}


def _words(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []
