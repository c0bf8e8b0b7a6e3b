"""A model on its way from one file format to another."""

import hashlib
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dpa2.convert.deepmd import load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.errors import ConversionError
from schemas.model import parse_model

SOFTWARE = "dpa-zoo"
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class PortableModel:
    """A model of one task, and where it comes from.

    Attributes:
        model: The network with its weights and statistics.
        model_params: The `model` section it was trained with.
        path: The file it was read from.
        branch: Its name there; `Default` in a single-task model.
        step: 0-based index of the last training step, None where the file does not say.
        learning_rate: Rate of that step.
        left_behind: What the file held beside the model, in words.
        notes: What was odd about the file, in words.
        history: Earlier conversions, oldest first (see `with_history`).
    """

    model: EnergyModel
    model_params: dict[str, Any]
    path: Path
    branch: str = SINGLE_TASK_BRANCH
    step: int | None = None
    learning_rate: float | None = None
    left_behind: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def with_history(self) -> list[dict[str, Any]]:
        """Return the conversions that lead to a file written now: name and digest, no time."""
        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        step = {
            "software": SOFTWARE,
            "version": software_version(),
            "source": self.path.name,
            "sha256": digest.hexdigest(),
            "branch": self.branch,
        }
        return [*self.history, step]


def in_precision(portable: PortableModel, dtype: str) -> PortableModel:
    """Return the model with parameters of another floating-point type.

    Raises:
        ConversionError: If there is no such type.
    """
    if dtype not in DTYPES:
        raise ConversionError(
            f"parameters cannot be of type `{dtype}` here", hint=f"use one of: {', '.join(DTYPES)}"
        )
    section = dict(portable.model_params)
    for name in ("descriptor", "fitting_net"):
        section[name] = {**section[name], "precision": dtype}
    model = build_model(parse_model(section))
    load_deepmd_state(model, to_deepmd_state(portable.model))
    changed = dict(portable.__dict__) | {"model": model, "model_params": section}
    return PortableModel(**changed)


def software_version() -> str:
    """Return the version of this program."""
    try:
        return version(SOFTWARE)
    except PackageNotFoundError:
        return "unknown"
