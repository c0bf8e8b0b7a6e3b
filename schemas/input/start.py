"""What a training starts from: a checkpoint, and which branch of it serves which branch."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, Literal

from schemas.base.diagnostics import Path
from schemas.base.errors import ConfigError
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.input.model import Model, parse_model
from schemas.input.root import Input, MultiTaskInput, normalized
from schemas.input.section import is_comment
from schemas.input.view import View, as_written

BiasMode = Literal["change", "set", "none"]
"""What becomes of the energies of the elements: `change` adds what the model leaves over
(deepmd-kit's `change-by-statistic`), `set` replaces (`set-by-statistic`), `none` leaves them."""
StartOption = Literal["--finetune", "--restart", "--init-model"]
FittingNet = Literal["copied", "random", "resumed"]
"""`copied`: from the checkpoint, with a new energy bias; `random`: drawn anew, only the descriptor
is taken; `resumed`: from the checkpoint, and the branch goes on as it was."""
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
        if source.fitting == "resumed":
            return "none"
        return self.bias_mode or ("set" if source.fitting == "random" else "change")

    @property
    def has_branches(self) -> bool:
        """Whether it is a multi-task model."""
        return isinstance(self.model_params.get("model_dict"), dict)

    @property
    def branches(self) -> dict[str, Mapping[str, Any]]:
        """The model section of each branch."""
        if not self.has_branches:
            return {SINGLE_TASK_BRANCH: self.model_params}
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
        file: The checkpoint.
        branch: Its name in the checkpoint.
        section: Its model section.
        fitting: What becomes of the fitting net and the energy bias.
    """

    file: str
    branch: str
    section: Mapping[str, Any] = field(repr=False)
    fitting: FittingNet = "copied"

    @property
    def name(self) -> str:
        """The checkpoint and, where it has several branches, the branch."""
        file = FilePath(self.file).name
        return file if self.branch == SINGLE_TASK_BRANCH else f"{file}, branch {self.branch}"

    @property
    def type_map(self) -> list[str]:
        """Elements of the branch."""
        return list(self.section["type_map"])

    def new_elements(self, type_map: Sequence[str]) -> list[str]:
        """Return the elements of the input that the checkpoint does not know."""
        return [name for name in type_map if name not in self.type_map]

    def dropped_elements(self, type_map: Sequence[str]) -> list[str]:
        """Return the elements of the checkpoint that the input does not have."""
        return [name for name in self.type_map if name not in type_map]


NETWORKS = ("descriptor", "fitting_net")


@dataclass(frozen=True, slots=True)
class Target:
    """A branch of the input, or all of it, that starts from a checkpoint."""

    view: View
    sound: Input

    @property
    def name(self) -> str:
        """The branch."""
        return self.view.branch or SINGLE_TASK_BRANCH

    def path(self, *parts: str | int) -> Path:
        """Return where in the file a path of this branch is written."""
        return self.view.original(as_written(self.view.data, parts))


def targets_of(config: Input | MultiTaskInput) -> list[Target]:
    """Return the branches of a checked input; one for a single task."""
    if isinstance(config, Input):
        return [Target(View(normalized(config)), config)]
    return [
        Target(
            View({"model": normalized(branch.model), "loss": normalized(branch.loss)}, branch=name),
            Input.model_construct(
                model=branch.model,
                loss=branch.loss,
                learning_rate=config.learning_rate,
                training=config.training,
            ),
        )
        for name, branch in config.branches.items()
    ]


@dataclass
class RunStart:
    """The branches of an input, and the checkpoint that they start from if there is one."""

    targets: Sequence[Target]
    start: Start | None
    config: Input | MultiTaskInput | None = None
    """All of the input; None if there are faults in it."""

    @property
    def checkpoint(self) -> Start:
        """The checkpoint, where there is one."""
        assert self.start is not None
        return self.start

    @property
    def is_multitask(self) -> bool:
        """Whether the input has branches."""
        return any(target.view.branch is not None for target in self.targets)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """The branch of the checkpoint from which each branch of the input starts.

        A branch of which none can be said, because the one asked for does not exist, is left out.
        """
        if self.start is None:
            return {}
        found = {
            target.name: choose(self.start, target.view, is_multitask=self.is_multitask)
            for target in self.targets
        }
        return {name: source for name, source in found.items() if source is not None}

    def place(self, path: Path) -> Path:
        """Return where in the file a path of the normalised input is written."""
        named = {target.view.branch: target for target in self.targets}
        match [str(part) for part in path]:
            case ["loss_dict", branch, *rest]:
                return named[branch].path("loss", *rest) if branch in named else path
            case ["training", "data_dict", branch, *rest]:
                return named[branch].path("training", *rest) if branch in named else path
            case parts:
                return self.targets[0].path(*parts) if self.targets else path

    def is_undecided(self, target: Target) -> bool:
        """Whether a fitting net would be random because no branch is chosen."""
        source = self.sources.get(target.name)
        if self.start is None or source is None or source.fitting != "random":
            return False
        return RANDOM not in (self.start.branch, target.view.head)

    @cached_property
    def models(self) -> dict[str, Model | ConfigError]:
        """The model of each source, by its name, or why it is none that this engine runs."""
        found: dict[str, Model | ConfigError] = {}
        for source in self.sources.values():
            if source.branch not in found:
                found[source.branch] = model_of(source)
        return found

    def pairs(self) -> Iterator[tuple[Target, Source, Model]]:
        """Yield each branch of the input with the one that it starts from and its model."""
        for target in self.targets:
            source = self.sources.get(target.name)
            model = self.models.get(source.branch) if source is not None else None
            if source is not None and isinstance(model, Model):
                yield target, source, model


def choose(start: Start, view: View, *, is_multitask: bool) -> Source | None:
    """Return the branch from which a branch of the input starts, as deepmd-kit chooses it.

    None if the branch that is asked for does not exist.
    """
    names, branches = start.names, start.branches
    if not branches:
        return None

    def source(branch: str, fitting: FittingNet = "copied") -> Source:
        return Source(start.file, branch, branches[branch], fitting)

    head, first = view.head, next(iter(branches))
    if start.option != "--finetune":
        name = view.branch or SINGLE_TASK_BRANCH
        if not is_multitask and not start.has_branches:
            name = first
        return source(name, "resumed") if name in branches else None
    if is_multitask and head is None and view.branch in branches:
        assert view.branch is not None
        return source(view.branch, "resumed")
    asked = head if is_multitask else start.branch or head
    if not asked and not is_multitask and not start.has_branches:
        return source(first)
    if not asked or asked == RANDOM:
        return source(first, "random")
    if asked not in names:
        return None
    return source(names[asked])


def model_of(source: Source) -> Model | ConfigError:
    """Return the model of a branch of a checkpoint, or why this engine cannot run it."""
    try:
        return parse_model(source.section)
    except ConfigError as error:
        return error


def with_pretrained(view: View, start: Start | None, *, is_multitask: bool = False) -> View:
    """Return a branch with its networks replaced by those of the checkpoint, if that is asked for.

    As deepmd-kit does: fine-tuning keeps the type_map and whether networks are trained, and a
    fitting net that is drawn anew; starting with `--init-model` replaces the whole model. Without
    `--use-pretrain-script` an empty descriptor is hidden, since a rule speaks of that.
    """
    model = view.data.get("model")
    if not isinstance(model, dict):
        return view
    if start is None or not start.use_pretrain_script or start.option == "--restart":
        if is_empty(model.get("descriptor")):
            return dataclasses.replace(view, hidden=(*view.hidden, ("model", "descriptor")))
        return view
    source = choose(start, view, is_multitask=is_multitask)
    stored = model_of(source) if source is not None else None
    if source is None or not isinstance(stored, Model):
        return view
    theirs = normalized(stored)
    if start.option == "--init-model":
        return dataclasses.replace(view, data={**view.data, "model": theirs})
    replaced = {**model}
    for name in NETWORKS if source.fitting != "random" else NETWORKS[:1]:
        replaced[name] = {**theirs[name], "trainable": _trainable(model.get(name))}
    if source.fitting == "random" and not isinstance(replaced.get("fitting_net"), Mapping):
        replaced["fitting_net"] = {}
    return dataclasses.replace(view, data={**view.data, "model": replaced})


def is_empty(descriptor: Any) -> bool:
    """Return whether a descriptor is left to the checkpoint: an object with comments at most."""
    return isinstance(descriptor, Mapping) and all(is_comment(key) for key in descriptor)


def _trainable(section: Any) -> Any:
    return section.get("trainable", True) if isinstance(section, Mapping) else True
