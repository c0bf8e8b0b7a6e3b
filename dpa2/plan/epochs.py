"""How often a run sees each of its systems."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from dpa2.data.batching import epoch_length
from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from schemas.data import DataSection
from schemas.errors import ConfigError
from schemas.input import Input
from schemas.multitask import MultiTaskInput
from schemas.start import DEFAULT_BRANCH


@dataclass(frozen=True, slots=True)
class SystemPlan:
    """One system of the training data.

    Attributes:
        name: Its path.
        num_frames: Frames of an epoch, repetitions included.
        num_atoms: Atom slots per frame.
        batch_size: Frames per batch.
        num_batches: Batches per epoch.
        probability: Of being drawn at a step of its branch.
        epochs: How often the run passes over it, on average.
    """

    name: str
    num_frames: int
    num_atoms: int
    batch_size: int
    num_batches: int
    probability: float
    epochs: float


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """The training data of a branch, or of the only task.

    What follows from the data is None where nobody looked at them.

    Attributes:
        name: The branch.
        probability: Of being trained at a step.
        steps: Steps of the run that train it, on average.
        steps_per_epoch: Steps after which every system was seen once, on average.
        epochs: How often the run passes over its data.
        systems: Its systems.
        labels: Labels that all systems have.
    """

    name: str
    probability: float | None
    steps: float | None
    steps_per_epoch: int | None
    epochs: float | None
    systems: list[SystemPlan]
    labels: list[str]

    @property
    def largest_batch(self) -> int:
        """Atoms of the largest batch."""
        return max(item.batch_size * item.num_atoms for item in self.systems)


def branches_of(config: Input | MultiTaskInput) -> tuple[int, list[BranchPlan]]:
    """Return the number of steps of a run, and how often each branch sees its data.

    Raises:
        DataError: The data cannot be read, or a batch size or a probability does not fit them.
    """
    if isinstance(config, Input):
        training = config.training
        sampler = sampler_of(training.training_data, config.model.type_map)
        num_steps = training.numb_steps
        if num_steps is None:
            assert training.numb_epoch is not None
            num_steps = ceil(training.numb_epoch * sampler.steps_per_epoch)
        return num_steps, [_branch(DEFAULT_BRANCH, sampler, 1.0, num_steps)]
    samplers = {
        name: sampler_of(branch.training_data, branch.model.type_map)
        for name, branch in config.branches.items()
    }
    num_steps, probabilities = _shares(config, samplers)
    return num_steps, [
        _branch(name, sampler, probabilities[name], num_steps) for name, sampler in samplers.items()
    ]


def branches_without_data(config: Input | MultiTaskInput) -> tuple[int, list[BranchPlan]]:
    """Return the number of steps of a run, and what the input alone says about its branches.

    Raises:
        ConfigError: The length of the run is given in epochs.
    """
    num_steps = config.training.numb_steps
    if num_steps is None:
        raise ConfigError(
            "the run is as long as some epochs, and only the data say how many steps that is",
            hint="leave out --no-data, or plan with --set training.numb_steps=N",
        )
    if isinstance(config, Input):
        return num_steps, [_unseen(DEFAULT_BRANCH, 1.0, num_steps)]
    given = config.training.model_prob
    total = sum(given.values())
    return num_steps, [
        _unseen(name, given.get(name, 0.0) / total if given else None, num_steps)
        for name in config.branches
    ]


def _unseen(name: str, probability: float | None, num_steps: int) -> BranchPlan:
    steps = None if probability is None else probability * num_steps
    return BranchPlan(name, probability, steps, None, None, [], [])


def sampler_of(section: DataSection, type_map: list[str]) -> Sampler:
    """Open the systems of a section and apply its batch size and probabilities."""
    systems = open_systems(section.systems, type_map, section.rglob_patterns)
    return Sampler(
        systems, section.batch_size, auto_prob=section.auto_prob, sys_probs=section.sys_probs
    )


def _shares(
    config: MultiTaskInput, samplers: Mapping[str, Sampler]
) -> tuple[int, dict[str, float]]:
    """Return the number of steps, and the probability of each branch.

    docs/deepmd-format.md, 6.4.
    """
    epochs = config.training.num_epoch_dict
    if epochs:
        weights = {name: epochs[name] * item.steps_per_epoch for name, item in samplers.items()}
        num_steps = ceil(sum(weights.values()))
    else:
        assert config.training.numb_steps is not None
        num_steps = config.training.numb_steps
        given = config.training.model_prob
        weights = {
            name: given.get(name, 0.0) if given else float(len(sampler.systems))
            for name, sampler in samplers.items()
        }
    total = sum(weights.values())
    return num_steps, {name: weight / total for name, weight in weights.items()}


def _branch(name: str, sampler: Sampler, probability: float, num_steps: int) -> BranchPlan:
    steps = probability * num_steps
    systems = [
        SystemPlan(
            system.name,
            epoch_length(system),
            system.num_atoms,
            size,
            sampler.num_batches(number),
            float(chance),
            steps * float(chance) / sampler.num_batches(number),
        )
        for number, (system, size, chance) in enumerate(
            zip(sampler.systems, sampler.batch_sizes, sampler.probabilities, strict=True)
        )
    ]
    labels = frozenset.intersection(*(system.labels for system in sampler.systems))
    per_epoch = sampler.steps_per_epoch
    return BranchPlan(
        name, probability, steps, per_epoch, steps / per_epoch, systems, sorted(labels)
    )
