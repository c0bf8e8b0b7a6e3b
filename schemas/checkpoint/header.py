"""What a PyTorch checkpoint of deepmd-kit holds, read without torch and without its numbers.

Such a file is an uncompressed zip archive: `data.pkl` describes everything, `data/<key>` are the
numbers. Reading the directory at its end and `data.pkl` is enough to know the model, its branches
and every tensor, so that this works as well over a network (docs/deepmd-format.md, 4).
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.base.errors import CheckpointError
from schemas.base.foreign_files import USE_CHECKPOINT, other_format
from schemas.checkpoint.archive import (
    ArchiveEntry,
    LocalFile,
    RandomAccess,
    check_contents,
    damaged,
    locate,
    pieces,
    read_directory,
)
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH, branch_names
from schemas.checkpoint.kinds import check_name
from schemas.checkpoint.pickle_values import ITEM_SIZES, Tensor, TooLargeError, check_tree
from schemas.checkpoint.unpickler import CHECKPOINT, Allowed, read_pickle

EXTRA = "_extra_state"
"""Where a state dict of deepmd-kit keeps what is no tensor: the model section and the step."""

STATE_KEY = "dpa_zoo"
"""Our own section beside those of deepmd-kit: what an exact restart needs."""
SETTINGS = "settings"
"""In it: the normalised input of the run, without the model."""
USE_FROZEN = "give a model written by zoo freeze or by dp --pt freeze"
LARGEST_DESCRIPTION = 64 * 2**20
"""Bytes that the pickle of a file may have."""

_MOST_EXPANSION = 64 * 2**20
"""Bytes that tensors which repeat numbers (stride 0) may stand for beyond those in the file."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor of the file.

    Args:
        name: Its name in the state dict, such as `model.Default.atomic_model.out_bias`.
        shape: Length of each axis.
        dtype: The type of an element, such as `float64`.
        strides: Elements between neighbours along each axis.
        storage: Key of the entry that holds the numbers; shared tensors have the same.
        offset: Bytes of that entry before the first number.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]
    storage: str
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes of its numbers, one after the other."""
        return ITEM_SIZES[self.dtype] * math.prod(self.shape)

    @property
    def place(self) -> tuple[str, int, tuple[int, ...], tuple[int, ...], str]:
        """What is equal for two names of one tensor."""
        return self.storage, self.offset, self.shape, self.strides, self.dtype

    @property
    def branch(self) -> str:
        """The branch to which it belongs."""
        return self.name.split(".")[1] if self.name.startswith("model.") else SINGLE_TASK_BRANCH


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """What a checkpoint says about itself.

    Args:
        name: The file's name.
        model_params: The model section that it was trained with.
        train_infos: `lr` and `step` of the last step.
        tensors: Tensors of the model by name, without those of the optimiser.
        storages: Entries of the archive that hold numbers, by key.
        has_optimizer: Whether the state of the optimiser is in it; None if that was not read.
        complete: Whether `tensors` are all of them; over a network only some may have been read.
        settings: The normalised input of the run without the model; None in files of deepmd-kit.
        frames: Frames of each system in an epoch, by kind of data (`training_data`,
            `validation_data`) and branch; empty in files of deepmd-kit.
        steps_done: Steps that were done, 0 included; None in files of deepmd-kit.
    """

    name: str
    model_params: dict[str, Any]
    train_infos: dict[str, Any]
    tensors: dict[str, TensorEntry]
    storages: dict[str, ArchiveEntry]
    has_optimizer: bool | None
    complete: bool = True
    settings: dict[str, Any] | None = None
    frames: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    steps_done: int | None = None

    @property
    def branches(self) -> dict[str, dict[str, Any]]:
        """The model section of each branch; of a single-task model, that of `Default`."""
        found = self.model_params.get("model_dict")
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if isinstance(value, dict)}
        return {SINGLE_TASK_BRANCH: self.model_params}

    def tensors_of(self, branch: str) -> dict[str, TensorEntry]:
        """Return the tensors of a branch by name, without `model.<branch>.` before it."""
        prefix = f"model.{branch}."
        return {
            name.removeprefix(prefix): entry
            for name, entry in self.tensors.items()
            if name.startswith(prefix)
        }

    @property
    def steps(self) -> int | None:
        """Steps that were done; None if the file does not say."""
        if self.steps_done is not None:
            return self.steps_done
        step = self.train_infos.get("step")
        return step + 1 if isinstance(step, int) else None

    @property
    def last_rate(self) -> float | None:
        """Learning rate of the last step; None if the file does not say."""
        rate = self.train_infos.get("lr")
        return float(rate) if isinstance(rate, int | float) else None


@dataclass(frozen=True, slots=True)
class Archive:
    """The entries of a checkpoint or of a TorchScript file.

    Args:
        folder: The one folder of the archive.
        description: Entry of the pickle that describes everything.
        storages: Entries with numbers by key.
        entries: All entries by name.
    """

    folder: str
    description: ArchiveEntry
    storages: dict[str, ArchiveEntry]
    entries: dict[str, ArchiveEntry]


def read_header(source: str | os.PathLike[str] | RandomAccess) -> CheckpointHeader:
    """Read what a checkpoint says about itself; no code in it is run, no number is read.

    Args:
        source: A path, or what can be read from anywhere.

    Raises:
        CheckpointError: It is no checkpoint of deepmd-kit, or one that no program writes; the
            message says what it is.
        OSError: It cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        check_name(source)
        with LocalFile(source) as file:
            return read_header(file)
    archive = open_archive(source)
    return header_of(source, archive, describe(source, archive))


def check_numbers(path: str | os.PathLike[str]) -> CheckpointHeader:
    """Read what a checkpoint says about itself, and compare all of it with its checksums.

    Raises:
        CheckpointError: As `read_header`, and if any byte of its content is not what was written.
        OSError: It cannot be read.
    """
    header = read_header(path)
    with LocalFile(path) as source:
        check_contents(source, read_directory(source).values())
    return header


def open_archive(source: RandomAccess, *, program: bool = False) -> Archive:
    """Read the directory of a checkpoint.

    Args:
        source: The file.
        program: Whether it is a TorchScript file.

    Raises:
        CheckpointError: It is no such file, or one that no program writes.
    """
    beginning = source.read_at(0, 512)
    if not beginning.startswith(b"PK\x03\x04"):
        raise other_format(source.name, source.size, beginning)
    entries = read_directory(source, program=program)
    described = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(described) != 1:
        what, hint = ("frozen model", USE_FROZEN) if program else ("checkpoint", USE_CHECKPOINT)
        raise CheckpointError(
            f"{source.name} is a zip archive, but no {what}: it has no data.pkl", hint=hint
        )
    folder = described[0].partition("/")[0]
    entry = entries[described[0]]
    if entry.num_bytes > LARGEST_DESCRIPTION:
        raise CheckpointError(
            f"{source.name} is not written the way PyTorch does it: its description has "
            f"{entry.num_bytes:,} bytes",
            hint=USE_CHECKPOINT,
        )
    _check_byte_order(source, entries.get(f"{folder}/byteorder"))
    prefix = f"{folder}/data/"
    storages = {
        name.removeprefix(prefix): item for name, item in entries.items() if name.startswith(prefix)
    }
    return Archive(folder, entry, storages, entries)


def describe(source: RandomAccess, archive: Archive, allowed: Allowed = CHECKPOINT) -> Any:
    """Return what the pickle of a file describes, all of it.

    Raises:
        CheckpointError: It is damaged, or asks for more than such a file needs.
    """
    return read_pickle(b"".join(pieces(source, archive.description)), source.name, allowed)


def header_of(
    source: RandomAccess, archive: Archive, description: Any, *, complete: bool = True
) -> CheckpointHeader:
    """Turn what a pickle describes into a header.

    Args:
        source: The file, for messages.
        archive: Its directory.
        description: What the pickle describes.
        complete: Whether that is all of it.

    Raises:
        CheckpointError: It does not describe a model of deepmd-kit, or tensors beyond the file.
    """
    state = description
    if isinstance(description, dict) and isinstance(description.get("model"), dict):
        state = description["model"]
    extra = state.get(EXTRA) if isinstance(state, dict) else None
    params = extra.get("model_params") if isinstance(extra, dict) else None
    if not isinstance(params, dict):
        keys = ", ".join(map(str, list(description)[:5])) if isinstance(description, dict) else ""
        raise CheckpointError(
            f"{source.name} is a PyTorch file, but does not describe a model of deepmd-kit"
            + (f"; its keys are {keys}" if keys else ""),
            hint=USE_CHECKPOINT,
        )
    _check_sections(source, description, params)
    check_storages(source, description, archive.storages)
    infos = extra.get("train_infos") if isinstance(extra, dict) else None
    entries = list(tensor_entries(state))
    refuse_expansion(source, entries, archive.storages)
    ours = description.get(STATE_KEY) if isinstance(description, dict) else None
    ours = ours if isinstance(ours, dict) else {}
    settings, done = ours.get(SETTINGS), ours.get("steps_done")
    has_optimizer = isinstance(description, dict) and bool(description.get("optimizer"))
    return CheckpointHeader(
        name=source.name,
        model_params=params,
        train_infos=infos if isinstance(infos, dict) else {},
        tensors={entry.name: entry for entry in entries},
        storages=archive.storages,
        has_optimizer=has_optimizer if complete else None,
        complete=complete,
        settings=settings if isinstance(settings, dict) else None,
        frames=_frames(ours),
        steps_done=done if isinstance(done, int) else None,
    )


def _frames(ours: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Return the lengths that the states of our samplers note."""
    kinds = {kind: ours.get(kind) for kind in ("training_data", "validation_data")}
    return {
        kind: {
            branch: list(state["lengths"])
            for branch, state in states.items()
            if isinstance(state, dict) and isinstance(state.get("lengths"), list)
        }
        for kind, states in kinds.items()
        if isinstance(states, dict)
    }


def _check_byte_order(source: RandomAccess, entry: ArchiveEntry | None) -> None:
    """Refuse numbers of the other byte order; files of before PyTorch 2.1 do not say theirs."""
    if entry is None:
        return
    order = source.read_at(locate(source, entry), min(entry.num_bytes, 20))
    if order != b"little":
        raise CheckpointError(
            f"{source.name} holds numbers in the byte order `{order.decode('ascii', 'replace')}`; "
            "this program reads `little`",
            hint="load it and save it again on a little-endian machine",
        )


def _check_sections(source: RandomAccess, description: Any, params: dict[str, Any]) -> None:
    try:
        check_tree(description)
        branch_names(params)
    except (TooLargeError, TypeError) as error:
        raise CheckpointError(
            f"{source.name} describes no model: {error}",
            hint="no program writes such a file; use one from a source that you trust",
        ) from error


def check_storages(
    source: RandomAccess, description: Any, storages: Mapping[str, ArchiveEntry]
) -> None:
    """Refuse tensors without numbers, wherever in a description they are.

    Raises:
        CheckpointError: A storage is not in the file, or of another size.
    """
    parts: list[tuple[Any, Any]] = [("", description)]
    seen = set()
    while parts:
        name, value = parts.pop()
        if isinstance(value, Tensor):
            stored = storages.get(value.storage.key)
            if stored is None or value.storage.size * ITEM_SIZES[value.dtype] != stored.num_bytes:
                raise damaged(source, f"it lacks numbers of `{name}`")
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            parts.extend(value.items() if isinstance(value, dict) else enumerate(value))


def tensor_entries(state: Mapping[Any, Any]) -> Iterator[TensorEntry]:
    """Yield what a file says of each tensor of a state dictionary."""
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and isinstance(name, str):
            offset = ITEM_SIZES[tensor.dtype] * tensor.offset
            key = tensor.storage.key
            yield TensorEntry(name, tensor.shape, tensor.dtype, tensor.strides, key, offset)


def refuse_expansion(
    source: RandomAccess, entries: list[TensorEntry], storages: Mapping[str, ArchiveEntry]
) -> None:
    """Refuse tensors that a copy would blow up: one number may stand for terabytes (stride 0).

    Raises:
        CheckpointError: They stand for more than the file can hold.
    """
    places = {entry.place: entry for entry in entries}
    stored = sum(entry.num_bytes for entry in storages.values())
    total = 0
    for entry in places.values():
        total += entry.num_bytes
        if total > _MOST_EXPANSION + 4 * stored:
            raise CheckpointError(
                f"{source.name} describes a tensor `{entry.name}` of shape {entry.shape}, which "
                f"stands for more numbers than the {stored:,} bytes of the file hold",
                hint="no program writes such a file; use one from a source that you trust",
            )
