"""Which branch of a checkpoint each branch of the input starts from.

docs/deepmd-format.md, 6.9.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.departure import Departure
from schemas.errors import ConfigError
from schemas.finetune import check_start, targets_of
from schemas.input import Input
from schemas.multitask import MultiTaskInput
from schemas.start import DEFAULT_BRANCH, Source, Start

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


def find_origins(config: Input | MultiTaskInput, start: Start) -> dict[str, Origin]:
    """Return the origin of every branch of the input, by its name; `Default` for a single task.

    The choice and what is wrong with it are the validator's. It is deepmd-kit's choice, but where
    deepmd-kit draws a random fitting net because no branch is chosen, it is an error here.

    Raises:
        ConfigError: When a branch does not exist or is not chosen, or the input does not fit it.
    """
    targets = targets_of(config)
    for finding in check_start(targets, start):
        if finding.severity == "error" or finding.code == NO_BRANCH_CHOSEN:
            raise ConfigError(finding.message, hint=finding.hint)
    sources = Departure(targets, start).sources
    return {name: _origin(start, source) for name, source in sources.items()}


def _origin(start: Start, source: Source) -> Origin:
    fitting: FittingNet = "copied"
    if source.is_random:
        fitting = "random"
    elif source.is_resumed:
        fitting = "resumed"
    return Origin(start.file, source.branch, tuple(source.section["type_map"]), fitting)
