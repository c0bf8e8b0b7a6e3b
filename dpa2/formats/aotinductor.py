"""Evaluation with a compiled model (`.pt2`), of this project or of deepmd-kit."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.formats.engine import LowerEngine, LowerFacts, LowerInput, array_of
from dpa2.formats.pt2 import Package, read_package
from schemas.base.errors import CheckpointError
from schemas.checkpoint.archive import check_program

SUFFIX = ".pt2"


class OtherTorchWarning(UserWarning):
    """A compiled model runs under another release of PyTorch than the one that compiled it."""


class CompiledEngine(LowerEngine):
    """Evaluates through the one program of the file (docs/deepmd-format.md, 9).

    Args:
        program: The loaded file.
        package: What it says about itself.
        device: Where it computes.
    """

    def __init__(self, program: Callable[..., Any], package: Package, device: torch.device) -> None:
        facts = LowerFacts.parse(package.metadata.model_dump(), package.path)
        super().__init__(self._run, facts, device, json.loads(package.model_params or "{}"))
        self._compiled = program

    def _run(self, frame: LowerInput, atomic: bool) -> dict[str, NDArray[np.float64]]:
        del atomic  # one program: it splits the virial always or never
        nlist = frame.with_slots(self.facts.nsel)
        arrays = (frame.coord, frame.types, nlist, frame.mapping, frame.fparam, frame.aparam)
        tensors = (self.tensor(array[None]) for array in arrays if array is not None)
        return {name: array_of(value) for name, value in self._compiled(*tensors).items()}


def is_compiled(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a compiled model that takes neighbour lists.

    Raises:
        CheckpointError: If its name ends in `.pt2` and it cannot be read as such a model.
    """
    file = Path(path)
    if file.suffix.lower() != SUFFIX or not file.is_file():
        return False
    return read_package(file).metadata.lower_input_kind == "nlist"


def open_compiled(path: str | os.PathLike[str], device: torch.device) -> CompiledEngine:
    """Load a compiled model. This runs the machine code in it: only open files that you trust.

    Raises:
        CheckpointError: If it was compiled for another kind of machine, or is damaged.
    """
    check_program(path)
    package = read_package(Path(path))
    hint = f"freeze the checkpoint here, or take its weights out: zoo convert {path} model.pth"
    if package.build is not None:
        reason = package.build.foreign_to(device)
        if reason is not None:
            raise CheckpointError(f"{path} cannot run here: {reason}", hint=hint)
        if not package.build.is_of_this_torch:
            warnings.warn(
                f"{path} was compiled by torch {package.build.pytorch} and runs under "
                f"{torch.__version__}: if its numbers matter, freeze it again",
                OtherTorchWarning,
                stacklevel=3,
            )
    try:
        index = -1 if device.index is None else device.index
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch._inductor.aoti_load_package(  # noqa: SLF001 - torch has no public name
                os.fspath(path), device_index=index
            )
    except RuntimeError as error:
        made = "" if package.build is None else f" (compiled by torch {package.build.pytorch})"
        raise CheckpointError(
            f"{path} cannot be loaded by torch {torch.__version__}{made}: "
            f"{str(error).splitlines()[0][:200]}",
            hint=hint,
        ) from error
    return CompiledEngine(program, package, device)
