"""Readers and writers of the formats, called by the table."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from dpa2.formats.conversion import PortableModel
from dpa2.formats.dictionary import from_dictionary, to_dictionary
from dpa2.formats.dictionary_files import read_archive, read_hdf5, read_yaml, write_hdf5, write_yaml
from dpa2.formats.freezing import script
from dpa2.formats.torchscript import HISTORY_FILE, read_torchscript
from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.jax.export import write_hlo, write_savedmodel
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError, ConversionError
from schemas.base.writing import atomic_write
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH, single_task_section
from schemas.input.model import parse_model

# ruff: noqa: ARG001 - all writers are called alike


Report = Callable[[str], None]

HISTORY_KEY = "dpa_zoo"
"""Where dictionaries keep the conversions that led to them; deepmd-kit passes over it."""


def read_pt(path: Path, branch: str | None) -> PortableModel:
    """Read a branch of a checkpoint."""
    checkpoint = read_checkpoint(path)
    name = checkpoint.resolve(branch)
    _, tensors = checkpoint.branch(name)
    if not tensors:
        raise CheckpointError(
            f"{checkpoint.path} has no weights of the branch `{name}`",
            hint="the file is damaged or was written by another program",
        )
    left = []
    if len(checkpoint.branches) > 1:
        others = [other for other in checkpoint.branches if other != name]
        left.append(f"the branches {', '.join(others)}" if others[1:] else f"branch {others[0]}")
    if checkpoint.optimizer:
        left.append("the state of the optimiser")
    if checkpoint.ema:
        left.append("averaged weights (ema)")
    if checkpoint.state:
        left.append("what an exact restart needs")
    params = checkpoint.model_params
    section = single_task_section(params, name) if "model_dict" in params else params
    return PortableModel(
        _built(section, tensors, checkpoint.path),
        section,
        checkpoint.path,
        branch=name,
        step=checkpoint.step,
        learning_rate=checkpoint.learning_rate,
        left_behind=left,
        history=list(checkpoint.history or []),
    )


def write_pt(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a single-task checkpoint."""
    write_checkpoint(
        path,
        tensors={SINGLE_TASK_BRANCH: to_deepmd_state(portable.model)},
        model_params=portable.model_params,
        step=portable.step or 0,
        learning_rate=portable.learning_rate or 0.0,
        # deepmd-kit's --init-model wants the key, and does not look at what is in it.
        optimizer={},
        history=portable.with_history(),
    )


def read_pth(path: Path, branch: str | None) -> PortableModel:
    """Read a frozen model."""
    _refuse_branch(path, branch)
    section, tensors, history = read_torchscript(path)
    return PortableModel(_built(section, tensors, path), section, path, history=history)


def write_pth(portable: PortableModel, path: Path, report: Report) -> None:
    """Freeze a model; it is taken apart."""
    report("compiling to TorchScript")
    history = json.dumps(portable.with_history())
    module = script(portable.model, portable.model_params)
    # deepmd-kit keeps a data modifier in the first of these; an empty one means none.
    extra = {"data_modifier.pth": "", HISTORY_FILE: history}
    with atomic_write(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(module, stream, _extra_files=extra)


def read_dp(path: Path, branch: str | None) -> PortableModel:
    """Read a `.dp` file."""
    _refuse_branch(path, branch)
    return _from_dictionary(path, read_hdf5(path))


def write_dp(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a `.dp` file."""
    write_hdf5(path, _to_dictionary(portable))


def read_yaml_model(path: Path, branch: str | None) -> PortableModel:
    """Read a `.yaml` file."""
    _refuse_branch(path, branch)
    return _from_dictionary(path, read_yaml(path))


def write_yaml_model(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a `.yaml` file."""
    write_yaml(path, _to_dictionary(portable))


def read_pt2(path: Path, branch: str | None) -> PortableModel:
    """Read a `.pt2` or `.pte` file of deepmd-kit's export backend."""
    _refuse_branch(path, branch)
    return _from_dictionary(path, read_archive(path))


def _to_dictionary(portable: PortableModel) -> dict[str, Any]:
    tree = to_dictionary(portable.model, portable.model_params)
    return {**tree, HISTORY_KEY: {"history": portable.with_history()}}


def _from_dictionary(path: Path, dictionary: Mapping[str, Any]) -> PortableModel:
    try:
        model, section, notes = from_dictionary(dictionary)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error.message}", hint=error.hint) from error
    ours = dictionary.get(HISTORY_KEY)
    history = ours.get("history") if isinstance(ours, Mapping) else None
    history = history if isinstance(history, list) else []
    return PortableModel(model, section, path, notes=notes, history=history)


def _built(section: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> EnergyModel:
    model = build_model(parse_model(section, path))
    load_deepmd_state(model, tensors)
    return model


def _refuse_branch(path: Path, branch: str | None) -> None:
    if branch is not None:
        raise CheckpointError(
            f"{path} holds one model: it has no branches to choose from",
            hint="leave the branch out",
        )


def write_savedmodel_model(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a SavedModel folder."""
    write_savedmodel(portable.model, portable.model_params, path, report)


def write_hlo_model(portable: PortableModel, path: Path, report: Report) -> None:
    """Write an `.hlo` file."""
    write_hlo(portable.model, portable.model_params, path, report)
