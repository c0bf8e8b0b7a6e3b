"""Which branch of a checkpoint each branch of the input starts from (interop-spec 6.9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.departure import Departure, Target
from schemas.errors import ConfigError
from schemas.finetune import check_start
from schemas.input import Input
from schemas.model import Model
from schemas.multitask import MultiTaskInput
from schemas.normalize import normalized
from schemas.start import DEFAULT_BRANCH, Source, Start
from schemas.view import View

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


def finetune_start(
    file: str | Path,
    model_params: Mapping[str, Any],
    branch: str | None = None,
    *,
    use_pretrain_script: bool = False,
) -> Start:
    """Return the description of a checkpoint that checks of the input need.

    Args:
        file: The checkpoint.
        model_params: The model section in it.
        branch: The branch asked for.
        use_pretrain_script: Whether the networks' sections are taken from it.
    """
    return Start(
        "--finetune",
        str(file),
        model_params,
        branch=branch,
        use_pretrain_script=use_pretrain_script,
    )


def find_origins(config: Input | MultiTaskInput, start: Start) -> dict[str, Origin]:
    """Return the origin of every branch of the input, by its name; `Default` for a single task.

    The choice and what is wrong with it are the validator's. It is deepmd-kit's choice, but where
    deepmd-kit draws a random fitting net because no branch is chosen, it is an error here.

    Raises:
        ConfigError: When a branch does not exist or is not chosen, or the input does not fit it.
    """
    targets = _targets(config)
    for finding in check_start(targets, start):
        if finding.severity == "error" or finding.code == NO_BRANCH_CHOSEN:
            raise ConfigError(finding.message, hint=finding.hint)
    sources = Departure(targets, start).sources
    return {name: _origin(start, source) for name, source in sources.items()}


def _targets(config: Input | MultiTaskInput) -> list[Target]:
    if isinstance(config, Input):
        return [_target(None, config.model)]
    return [_target(name, branch.model) for name, branch in config.branches.items()]


def _target(name: str | None, model: Model) -> Target:
    view = View({"model": normalized(model)}, branch=name)
    return Target(view, Input.model_construct(model=model))


def _origin(start: Start, source: Source) -> Origin:
    fitting: FittingNet = "copied"
    if source.is_random:
        fitting = "random"
    elif source.is_resumed:
        fitting = "resumed"
    return Origin(start.file, source.branch, tuple(source.section["type_map"]), fitting)
