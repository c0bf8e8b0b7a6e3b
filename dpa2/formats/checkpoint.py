"""Checkpoints in deepmd-kit's own `.pt` layout: read safely, written atomically.

docs/deepmd-format.md, 4.

A file is a dictionary: `model` (tensors under `model.<branch>.` and `_extra_state` with the model
section and the step), `optimizer`, `ema`, and our `dpa_zoo` (what an exact resumption needs beyond
that). deepmd-kit reads only the keys it knows, so the last one does not disturb it.
"""

import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.base.errors import CheckpointError
from schemas.base.writing import atomic_write
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH, branch_names, resolve_branch
from schemas.checkpoint.other_files import missing_file, refuse_other_formats, unreadable

__all__ = ["SINGLE_TASK_BRANCH", "STATE_KEY", "Checkpoint", "read_checkpoint", "write_checkpoint"]

STATE_KEY = "dpa_zoo"
"""Where our own state lives; unknown to deepmd-kit, which passes over it."""

HISTORY_KEY = "dpa_zoo_history"
"""Where conversions are recorded that led to the file; unknown to deepmd-kit."""

_EXTRA = "_extra_state"
_PREFIX = "model."


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        path: Where it was read.
        tensors: State dictionary with deepmd-kit's full keys (`model.<branch>....`).
        model_params: The normalised `model` section the file was trained with.
        step: 0-based index of the last executed step; None in files that do not say.
        learning_rate: Rate of that step; None in files that do not say.
        optimizer: The torch optimiser's state dictionary, or None.
        ema: `{"decay", "model", "validation_state"}`, or None.
        state: Our own state (sampler, averages ...), or None in files of deepmd-kit.
        history: The conversions that led to this file, oldest first; None where there were none.
    """

    path: Path
    tensors: "OrderedDict[str, Tensor]"
    model_params: dict[str, Any]
    step: int | None = None
    learning_rate: float | None = None
    optimizer: dict[str, Any] | None = None
    ema: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    history: list[dict[str, Any]] | None = None

    @property
    def steps_done(self) -> int | None:
        """Steps that were done; None in files that do not say."""
        if self.state is not None:
            return int(self.state["steps_done"])
        return None if self.step is None else self.step + 1

    @property
    def branches(self) -> list[str]:
        """Names of the branches, in the order of the file; `["Default"]` for a single task."""
        return branch_names(self.model_params)

    def resolve(self, name: str | None = None) -> str:
        """Return a branch's exact name, given that name or an alias, if need be in another case.

        Raises:
            CheckpointError: When the file has several branches and none, or an unknown one, is
                named; the hint lists them, with the nearest first.
        """
        return resolve_branch(self.path, self.model_params, name)

    def branch(self, name: str | None = None) -> tuple[dict[str, Any], "OrderedDict[str, Tensor]"]:
        """Return the model section and the tensors (keys without `model.<branch>.`) of a branch.

        Args:
            name: Which branch (see `resolve`); may be left out where there is only one.

        Raises:
            CheckpointError: As `resolve`.
        """
        chosen = self.resolve(name)
        section = self.model_params.get("model_dict", {}).get(chosen, self.model_params)
        prefix = f"{_PREFIX}{chosen}."
        tensors = OrderedDict(
            (key.removeprefix(prefix), tensor)
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        )
        return section, tensors


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of deepmd-kit or of ours; the tensors arrive on the CPU.

    No code in the file is ever run (`weights_only=True`). As with `dp`, the suffix `.pt` may be
    left out.

    Raises:
        CheckpointError: Says what the file is when it is not a checkpoint.
    """
    file = Path(path)
    if not file.exists() and file.with_name(file.name + ".pt").exists():
        file = file.with_name(file.name + ".pt")
    if not file.exists():
        raise missing_file(file)
    refuse_other_formats(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise unreadable(file, error) from error
    return _interpret(file, content)


def _interpret(path: Path, content: Any) -> Checkpoint:
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a checkpoint of a DPA-2 model",
            hint="give a model.ckpt-N.pt written by zoo train or by dp --pt train",
        )
    model = content.get("model", content)
    extra = model.get(_EXTRA) if isinstance(model, Mapping) else None
    params = extra.get("model_params") if isinstance(extra, Mapping) else None
    if not isinstance(params, Mapping):
        keys = ", ".join(str(key) for key in list(content)[:6])
        raise CheckpointError(
            f"{path} does not describe its model: it has no _extra_state.model_params; its keys "
            f"are {keys}",
            hint="it is a PyTorch file of another program, or of a deepmd-kit older than 3",
        )
    infos = extra.get("train_infos", {}) if isinstance(extra, Mapping) else {}
    tensors = OrderedDict((key, value) for key, value in model.items() if key != _EXTRA)
    return Checkpoint(
        path=path,
        tensors=tensors,
        model_params=dict(params),
        step=infos.get("step"),
        learning_rate=infos.get("lr"),
        optimizer=(content.get("optimizer") or None) if content is not model else None,
        ema=content.get("ema") if content is not model else None,
        state=content.get(STATE_KEY) if content is not model else None,
        history=content.get(HISTORY_KEY) if content is not model else None,
    )


def write_checkpoint(
    path: Path | str,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    model_params: Mapping[str, Any],
    step: int,
    learning_rate: float,
    optimizer: Mapping[str, Any] | None = None,
    ema: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write a checkpoint; it has its name only once it is complete and on the disk.

    Equal content gives equal bytes, so that two runs can be compared with `cmp`.

    Args:
        path: The file, `model.ckpt-N.pt`.
        tensors: Per branch the state dictionary, keys without `model.<branch>.`.
        model_params: The normalised `model` section.
        step: 0-based index of the last executed step.
        learning_rate: Rate of that step.
        optimizer: deepmd-kit's optimiser section, or None to leave it out.
        ema: The averages' section, or None to leave it out.
        state: Our own state: containers, numbers, strings and tensors only.
        history: The conversions that led to the model, or None to leave them out.

    Raises:
        WriteError: When the file cannot be written; an older one of that name is untouched.
    """
    extra = {
        "model_params": model_params,
        "train_infos": {"lr": float(learning_rate), "step": int(step)},
    }
    names = (
        (f"{_PREFIX}{branch}.{key}", t) for branch, d in tensors.items() for key, t in d.items()
    )
    sections = {
        "model": OrderedDict([(_EXTRA, extra), *names]),
        "optimizer": optimizer,
        "ema": ema,
        STATE_KEY: state,
        HISTORY_KEY: None if history is None else list(history),
    }
    content = canonical({key: value for key, value in sections.items() if value is not None})
    content["model"] = _with_metadata(OrderedDict(content["model"]))
    with atomic_write(path) as stream:
        torch.save(content, stream)


def canonical(value: Any) -> Any:
    """Return a copy in fresh plain containers with one object per distinct string.

    Pickle writes a repeated object as a back reference. Rebuilding everything makes its output
    depend on the values alone, not on how the program came by them.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {canonical(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, tuple):
        return tuple(canonical(item) for item in value)
    return value


def _with_metadata(state: "OrderedDict[str, Any]") -> "OrderedDict[str, Any]":
    """Attach the version table that torch's own state dictionaries carry."""
    modules = OrderedDict({"": {"version": 1}})
    for key in state:
        parts = key.split(".")[:-1]
        for depth in range(1, len(parts) + 1):
            modules.setdefault(sys.intern(".".join(parts[:depth])), {"version": 1})
    state._metadata = modules  # type: ignore[attr-defined]  # noqa: SLF001 - torch's own name
    return state
