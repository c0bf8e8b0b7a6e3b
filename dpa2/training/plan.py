"""Everything that can be said about a run before it starts, without torch.

Steps, epochs of each system, learning rate and weights of the loss, parameters, disk, memory.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from dpa2.data.sampler import Sampler, epoch_length
from dpa2.data.systems import open_systems
from dpa2.training.run_folder import keep_counts
from schemas.base.errors import ConfigError
from schemas.input.model import Model
from schemas.input.optimization import PREFACTORS, EnergyLoss, term_is_on
from schemas.input.root import Branch, Input, MultiTaskInput
from schemas.input.schedule import Schedule, build_schedule
from schemas.input.training import RunSettings
from schemas.input.weights import (
    MemoryEstimate,
    Neighbors,
    Shared,
    distinct_parameters,
    memory_estimate,
    parameter_counts,
    shared_parts,
)


def run_length(
    branches: Mapping[str, Branch], samplers: Mapping[str, Sampler], num_steps: int | None
) -> tuple[int, dict[str, float]]:
    """Return the steps of a run, and how often each branch is trained; that adds up to 1.

    Passes over the data (`numb_epoch`, `num_epoch_dict`) decide where they are given, `model_prob`
    next; without either, branches count by their number of systems.

    Args:
        branches: The branches.
        samplers: Their training data.
        num_steps: `numb_steps`; None where passes over the data are given.
    """
    weights = {name: _weight(branch, samplers[name]) for name, branch in branches.items()}
    total = sum(weights.values())
    length = math.ceil(total) if num_steps is None else int(num_steps)
    return length, {name: weight / total for name, weight in weights.items()}


def _weight(branch: Branch, sampler: Sampler) -> float:
    if branch.epochs is not None:
        return branch.epochs * sampler.steps_per_epoch
    if branch.probability is not None:
        return branch.probability
    return float(len(sampler.systems))


PERCENTAGES = (0, 1, 10, 25, 50, 75, 90, 100)
_REACHED = 1 + 1e-9
_BYTES = 8
_MOMENTS = 2
"""Moments of Adam, stored beside each parameter."""


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


@dataclass(frozen=True, slots=True)
class Milestone:
    """What holds at one step of a run.

    Attributes:
        name: Why this step is shown.
        step: Number of the step; the first is 1, as in `lcurve.out`.
        learning_rate: The rate that the optimiser sees.
        prefactors: Weight of each term of the loss, by branch and by name of the term.
    """

    name: str
    step: int
    learning_rate: float
    prefactors: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What a run leaves on the disk.

    Attributes:
        checkpoint: Bytes of a checkpoint: parameters and both moments of Adam.
        num_checkpoints: Checkpoints that are there at the end.
        averaged: Bytes of a checkpoint of the running mean; 0 without one.
        num_averaged: Checkpoints of the running mean.
    """

    checkpoint: int
    num_checkpoints: int
    averaged: int
    num_averaged: int

    @property
    def total(self) -> int:
        """Bytes of all checkpoints."""
        return self.checkpoint * self.num_checkpoints + self.averaged * self.num_averaged


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run explained.

    Attributes:
        num_steps: Steps.
        warmup_steps: Steps in which the learning rate rises.
        stop_step: First step at the last learning rate; None: the run ends before.
        last_lr: Where the schedule is meant to stop.
        milestones: Learning rate and weights of the loss.
        branches: Data and how often they are seen.
        parameters: Parameters of each part, by branch.
        num_parameters: All parameters, shared ones counted once.
        shared: What branches have in common.
        disk: Checkpoints.
        memory: Memory of a training step, of the branch that needs most; None without data.
    """

    num_steps: int
    warmup_steps: int
    stop_step: int | None
    last_lr: float
    milestones: list[Milestone]
    branches: list[BranchPlan]
    parameters: dict[str, dict[str, int]]
    num_parameters: int
    shared: list[Shared]
    disk: DiskUse
    memory: MemoryEstimate | None


def plan(
    config: Input | MultiTaskInput, neighbors: Mapping[str, Neighbors], *, with_data: bool = True
) -> RunPlan:
    """Explain a run.

    Args:
        config: The checked input.
        neighbors: Mean number of neighbours, by branch; where it is missing, the capacities count.
        with_data: Whether to look at the data, which may be elsewhere.

    Raises:
        ConfigError: The warm-up is not shorter than the run; the run is counted in epochs, and the
            data are not looked at.
        DataError: The data cannot be read.
    """
    num_steps, branches = (branch_plans if with_data else branches_without_data)(config)
    schedule = build_schedule(config.learning_rate, num_steps)
    models = {name: branch.model for name, branch in config.branches.items()}
    losses = {name: branch.loss for name, branch in config.branches.items()}
    last_lr = config.learning_rate.last_lr
    total = distinct_parameters(config.links, models)
    return RunPlan(
        num_steps=num_steps,
        warmup_steps=schedule.warmup_steps,
        stop_step=step_at_rate(schedule, last_lr),
        last_lr=last_lr,
        milestones=milestones(schedule, losses, last_lr),
        branches=branches,
        parameters={name: parameter_counts(model) for name, model in models.items()},
        num_parameters=total,
        shared=shared_parts(config.links, models),
        disk=disk_use(config.training, num_steps, total),
        memory=_memory(models, branches, total, neighbors) if with_data else None,
    )


def branch_plans(config: Input | MultiTaskInput) -> tuple[int, list[BranchPlan]]:
    """Return the number of steps of a run, and how often each branch sees its data.

    Raises:
        DataError: The data cannot be read, or a batch size or a probability does not fit them.
    """
    samplers = {}
    for name, branch in config.branches.items():
        data = branch.data.training_data
        systems = open_systems(data.systems, branch.model.type_map, data.rglob_patterns)
        samplers[name] = Sampler(
            systems, data.batch_size, auto_prob=data.auto_prob, sys_probs=data.sys_probs
        )
    num_steps, probabilities = run_length(config.branches, samplers, config.training.numb_steps)
    return num_steps, [
        _branch_plan(name, sampler, probabilities[name], num_steps)
        for name, sampler in samplers.items()
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
    branches = config.branches
    weights = {name: branch.probability or 0.0 for name, branch in branches.items()}
    total = sum(weights.values())
    plans = []
    for name, weight in weights.items():
        probability = weight / total if total else 1.0 if len(branches) == 1 else None
        steps = None if probability is None else probability * num_steps
        plans.append(BranchPlan(name, probability, steps, None, None, [], []))
    return num_steps, plans


def _branch_plan(name: str, sampler: Sampler, probability: float, num_steps: int) -> BranchPlan:
    steps = probability * num_steps
    systems = [
        SystemPlan(
            system.name,
            epoch_length(system),
            system.num_atoms,
            size,
            sampler.num_batches[number],
            float(chance),
            steps * float(chance) / sampler.num_batches[number],
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


def milestones(
    schedule: Schedule, losses: Mapping[str, EnergyLoss], last_lr: float
) -> list[Milestone]:
    """Return learning rate and weights of the loss at the milestones of a run, by step.

    Args:
        schedule: The learning rate.
        losses: The loss of each branch.
        last_lr: Where the schedule is meant to stop.
    """
    if schedule.num_steps == 0:
        return []
    names: dict[int, list[str]] = {}
    for percentage in PERCENTAGES:
        step = max(1, round(schedule.num_steps * percentage / 100))
        names.setdefault(step, []).append(f"{percentage} %")
    if schedule.warmup_steps:
        names.setdefault(schedule.warmup_steps + 1, []).append("warm-up ends")
    reached = step_at_rate(schedule, last_lr)
    if reached is not None:
        names.setdefault(reached, []).append("stop_lr reached")
    found = []
    for step in sorted(names):
        rate = schedule.applied(step - 1)
        progress = rate / schedule.start_lr
        weights = {branch: _prefactors(loss, progress) for branch, loss in losses.items()}
        found.append(Milestone(", ".join(names[step]), step, rate, weights))
    return found


def _prefactors(loss: EnergyLoss, progress: float) -> dict[str, float]:
    """Return limit + (start - limit) * lr / start_lr of the terms that are on."""
    found = {}
    for suffix, name in PREFACTORS.items():
        if term_is_on(loss, suffix):
            start = float(getattr(loss, f"start_pref_{suffix}"))
            limit = float(getattr(loss, f"limit_pref_{suffix}"))
            found[name] = limit + (start - limit) * progress
    return found


def step_at_rate(schedule: Schedule, rate: float) -> int | None:
    """Return the first step (from 1) after the warm-up with a rate this small; None: no step.

    The rate never rises after the warm-up, so that bisection finds it.
    """
    low, high = schedule.warmup_steps, schedule.num_steps - 1
    if high < low or schedule.value(high) > rate * _REACHED:
        return None
    steps = range(low, high + 1)
    found = bisect_left(steps, True, key=lambda step: schedule.value(step) <= rate * _REACHED)
    return steps[found] + 1


def disk_use(training: RunSettings, num_steps: int, num_parameters: int) -> DiskUse:
    """Return what checkpoints take, all numbers in double precision."""
    written = max(1, -(-num_steps // training.save_freq))
    keep, keep_average = keep_counts(training, num_steps)
    plain = num_parameters * _BYTES
    moments = plain * (_MOMENTS + training.enable_ema)  # restarts need the running mean too
    return DiskUse(
        checkpoint=plain + moments,
        num_checkpoints=min(keep, written),
        averaged=plain if training.enable_ema else 0,
        num_averaged=min(keep_average, written) if training.enable_ema else 0,
    )


def _memory(
    models: Mapping[str, Model],
    branches: list[BranchPlan],
    num_parameters: int,
    neighbors: Mapping[str, Neighbors],
) -> MemoryEstimate:
    estimates = [
        memory_estimate(
            models[branch.name],
            num_parameters,
            branch.largest_batch,
            neighbors.get(branch.name) or _capacities(models[branch.name]),
        )
        for branch in branches
    ]
    return max(estimates, key=lambda item: item.total)


def _capacities(model: Model) -> Neighbors:
    """Return `nsel` of each block: more neighbours than that are never looked at."""
    repinit, repformer = model.descriptor.repinit, model.descriptor.repformer
    most = (repinit.nsel, repinit.three_body_sel, repformer.nsel)
    return Neighbors(*(float(number) if isinstance(number, int) else 0.0 for number in most))
