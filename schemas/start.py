"""Where a training starts from: a checkpoint, as far as an input must fit it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.diagnostics import Path

BiasMode = Literal["change", "set", "none"]
"""What becomes of the energies of the elements: `change` adds what the model leaves over
(deepmd-kit's `change-by-statistic`), `set` replaces (`set-by-statistic`), `none` leaves them."""
StartOption = Literal["--finetune", "--restart", "--init-model"]
DEFAULT_BRANCH = "Default"
"""What deepmd-kit calls the only branch of a single-task model."""
RANDOM = "RANDOM"
"""What stands for a random fitting net in the place of a branch."""


@dataclass(frozen=True, slots=True)
class Start:
    """A checkpoint from which a training starts.

    Args:
        option: The option that names it.
        file: Its name, for messages.
        model_params: The model section that it holds; of several branches if it has `model_dict`.
        steps: Steps that were done; None if the file does not say.
        branch: The branch asked for with `--branch`.
        use_pretrain_script: Whether the input's networks are to be replaced by its networks.
        bias_mode: What becomes of the energies of the elements; None as deepmd-kit.
        settings: The normalised input of its run, without the model; None if the file does not say.
        last_rate: Learning rate of its last step; None if the file does not say.
        frames: Frames of each system of its data in an epoch, by kind of data and branch.
        has_optimizer: Whether the state of its optimiser is in it; None if that was not read.
    """

    option: StartOption
    file: str
    model_params: Mapping[str, Any] = field(repr=False)
    steps: int | None = None
    branch: str | None = None
    use_pretrain_script: bool = False
    bias_mode: BiasMode | None = None
    settings: Mapping[str, Any] | None = field(default=None, repr=False)
    last_rate: float | None = None
    frames: Mapping[str, Mapping[str, list[int]]] = field(default_factory=dict, repr=False)
    has_optimizer: bool | None = None

    @property
    def path(self) -> Path:
        """The place of a fault of the checkpoint itself: the option."""
        return (self.option,)

    def bias_of(self, source: "Source") -> BiasMode:
        """Return what becomes of the energies of the elements of a branch that starts here."""
        if source.is_resumed:
            return "none"
        return self.bias_mode or ("set" if source.is_random else "change")

    @property
    def has_branches(self) -> bool:
        """Whether it is a multi-task model."""
        return isinstance(self.model_params.get("model_dict"), dict)

    @property
    def branches(self) -> dict[str, Mapping[str, Any]]:
        """The model section of each branch."""
        if not self.has_branches:
            return {DEFAULT_BRANCH: self.model_params}
        found = self.model_params["model_dict"]
        return {name: value for name, value in found.items() if isinstance(value, Mapping)}

    @property
    def names(self) -> dict[str, str]:
        """The branch behind every name, aliases included."""
        found = {name: name for name in self.branches}
        if self.has_branches:
            for name, section in self.branches.items():
                given = section.get("model_branch_alias")
                for alias in given if isinstance(given, list) else ():
                    if isinstance(alias, str):
                        found.setdefault(alias, name)
        return found


@dataclass(frozen=True, slots=True)
class Source:
    """The branch of a checkpoint from which a branch of the input starts.

    Args:
        branch: Its name in the checkpoint.
        section: Its model section.
        is_random: Whether the fitting net is drawn anew and only the descriptor is taken.
        is_resumed: Whether the branch goes on as it is, without a new energy bias.
    """

    branch: str
    section: Mapping[str, Any] = field(repr=False)
    is_random: bool = False
    is_resumed: bool = False
