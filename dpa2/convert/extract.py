"""One branch of a multi-task checkpoint as a single-task checkpoint."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dpa2.io.checkpoint import read_checkpoint, write_checkpoint
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH, single_task_section
from schemas.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written.

    Attributes:
        path: The file.
        source: The checkpoint that the branch comes from.
        branch: Its exact name there.
        type_map: Element of each type.
        num_bytes: Size of the file.
    """

    path: Path
    source: Path
    branch: str
    type_map: list[str]
    num_bytes: int


def extract_branch(
    path: str | os.PathLike[str],
    branch: str | None,
    output: str | os.PathLike[str],
    *,
    force: bool = False,
) -> Extracted:
    """Write a branch as a single-task checkpoint that deepmd-kit and this program read.

    Weights, statistics and the model section are kept; the state of the optimiser, averages and
    whatever else only a continued run needs are left out.

    Args:
        path: A checkpoint (`.pt`) of this project or of deepmd-kit.
        branch: Name or alias; may be None where there is only one.
        output: The file to write.
        force: Replace a file that is there.

    Raises:
        CheckpointError: If the source or the branch cannot be used, or the output is there already.
        TrainingError: If the output cannot be written; an older file of that name is untouched.
    """
    target = Path(output)
    _refuse_overwriting(target, force=force)
    source = read_checkpoint(Path(path))
    name = source.resolve(branch)
    _, tensors = source.branch(name)
    if not tensors:
        raise CheckpointError(
            f"{source.path} has no weights of the branch `{name}`",
            hint="the file is damaged or was written by another program",
        )
    section = single_task_section(source.model_params, name)
    copies: dict[Any, Tensor] = {}
    write_checkpoint(
        target,
        tensors={SINGLE_TASK_BRANCH: {key: _copy(t, copies) for key, t in tensors.items()}},
        model_params=section,
        step=0 if source.step is None else source.step,
        learning_rate=source.learning_rate or 0.0,
        # deepmd-kit's --init-model wants the key, and does not look at what is in it.
        optimizer={},
    )
    type_map = [str(element) for element in section.get("type_map", [])]
    return Extracted(target, source.path, name, type_map, target.stat().st_size)


def _copy(tensor: Tensor, copies: dict[Any, Tensor]) -> Tensor:
    """Return a copy with a storage of its own, the same one for the same tensor.

    A view would take all of its storage into the file; deepmd-kit lists some tensors twice.
    """
    place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
    if place not in copies or not tensor.numel():
        copies[place] = tensor.detach().contiguous().clone()
    return copies[place]


def _refuse_overwriting(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise CheckpointError(f"{target} is a folder", hint="name the file to write")
    if target.exists() and not force:
        raise CheckpointError(
            f"{target} is there already", hint="name another file, or add --force to replace it"
        )
