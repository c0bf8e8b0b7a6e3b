"""The whole input, of one task or of several branches, and its normalised form."""

# ruff: noqa: RUF012 - pydantic copies mutable defaults

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat

from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.input.model import Model
from schemas.input.optimization import Adam, EnergyLoss, LearningRate, Optimizer
from schemas.input.section import NO_DEFAULT, Section, without_comments
from schemas.input.training import RunSettings, TaskData, Training, Validating


class Input(Section):
    """A complete single-task input."""

    model: Model
    """The network."""
    learning_rate: LearningRate
    """How the learning rate changes during training."""
    loss: EnergyLoss
    """What is minimised."""
    training: Training
    """How long to train, on what, and what to write."""
    optimizer: Optimizer = Adam()
    """How parameters are updated."""
    validating: Validating = Validating()
    """Validation on the whole of the validation data."""
    nvnmd: Annotated[dict[str, Any] | None, NO_DEFAULT] = None
    """Of a special hardware; this engine does not train for it."""

    @property
    def branches(self) -> dict[str, "Branch"]:
        """The only task, as a branch called `Default`."""
        return {
            SINGLE_TASK_BRANCH: Branch(
                name=SINGLE_TASK_BRANCH,
                model=self.model,
                loss=self.loss,
                data=self.training,
                probability=None,
                epochs=self.training.numb_epoch,
            )
        }

    @property
    def links(self) -> list["Link"]:
        """What branches share: nothing, since there is one."""
        return []


SharedComponent = Literal["descriptor", "fitting_net"]


@dataclass(frozen=True, slots=True)
class Link:
    """A part of one branch's network that is the same as the owner's.

    Args:
        name: Key in `shared_dict`.
        component: What is shared.
        branch: The branch that shares it; the owner has a link too.
        level: 0: everything that deepmd-kit shares of it; 1: of a descriptor, the type embedding.
        owner: The branch whose tensors all use: the first with the lowest level.
    """

    name: str
    component: SharedComponent
    branch: str
    level: int
    owner: str


class MultiTaskModel(Section):
    """The models of all branches, each with the shared parts put in."""

    shared_dict: Annotated[dict[str, Any], BeforeValidator(without_comments)] = {}
    """What branches can refer to by name, as written."""
    model_dict: Annotated[dict[str, Model], BeforeValidator(without_comments), Field(min_length=1)]
    """The model of each branch."""


class MultiTaskTraining(RunSettings):
    """How long to train, each branch on what, and what to write."""

    data_dict: Annotated[dict[str, TaskData], BeforeValidator(without_comments)]
    """The data of each branch."""
    model_prob: Annotated[dict[str, NonNegativeFloat], BeforeValidator(without_comments)] = {}
    """How often each branch is trained; empty: in proportion to its number of systems."""
    num_epoch_dict: Annotated[dict[str, PositiveFloat], BeforeValidator(without_comments)] = {}
    """Passes of each branch over its data, instead of `numb_steps` and `model_prob`."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Everything that belongs to one branch alone."""

    name: str
    model: Model
    loss: EnergyLoss
    data: TaskData
    probability: float | None
    """Weight of the branch in `model_prob`, not normalised; None if it is not given."""
    epochs: float | None
    """Passes over the data in `num_epoch_dict`; None if it is not given."""


class MultiTaskInput(Section):
    """A complete multi-task input."""

    model: MultiTaskModel
    """The networks."""
    learning_rate: LearningRate
    """How the learning rate changes during training."""
    loss_dict: Annotated[dict[str, EnergyLoss], BeforeValidator(without_comments)]
    """What is minimised in each branch."""
    training: MultiTaskTraining
    """How long to train, on what, and what to write."""
    optimizer: Optimizer = Adam()
    """How parameters are updated."""
    validating: Validating = Validating()
    """Validation on the whole of the validation data; for a single task only."""
    nvnmd: Annotated[dict[str, Any] | None, NO_DEFAULT] = None
    """Of a special hardware; this engine does not train for it."""
    links: Annotated[list[Link], Field(exclude=True)] = []
    """What is shared between which branches, by name in `shared_dict`, the owner first; not a
    key of the file."""

    @property
    def shared_dict(self) -> dict[str, Any]:
        """What branches refer to by name, as written."""
        return self.model.shared_dict

    @property
    def branches(self) -> dict[str, Branch]:
        """The branches, in the order of the file."""
        return {
            name: Branch(
                name=name,
                model=model,
                loss=self.loss_dict[name],
                data=self.training.data_dict[name],
                probability=self.training.model_prob.get(name),
                epochs=self.training.num_epoch_dict.get(name),
            )
            for name, model in self.model.model_dict.items()
        }


def normalized(section: Section) -> dict[str, Any]:
    """Return a section as deepmd-kit 3.2 normalises it: canonical keys, every default filled in.

    Keys for which deepmd-kit has no default (`seed`, `stat_file`, ...) appear only if they were
    given. The result is made of dicts, lists, strings, numbers, booleans and None.
    """
    document = {
        name: _plain(getattr(section, name))
        for name, field in type(section).model_fields.items()
        if not field.exclude
        and (name in section.model_fields_set or NO_DEFAULT not in field.metadata)
    }
    if (
        isinstance(section, (Input, MultiTaskInput))
        and "validating" not in section.model_fields_set
    ):
        document["validating"] = {}  # deepmd-kit fills in this section only if it is there
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return normalized(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
