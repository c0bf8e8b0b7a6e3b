"""Everything that can be said about a run before it starts."""

from collections.abc import Mapping
from dataclasses import dataclass

from dpa2.io.store import keep_count
from dpa2.plan.epochs import BranchPlan, branches_of, branches_without_data
from dpa2.plan.rates import Milestone, milestones, step_at_rate
from schemas.input import Input
from schemas.memory_estimate import MemoryEstimate, Neighbors, memory_estimate
from schemas.model import Model
from schemas.multitask import MultiTaskInput
from schemas.parameter_count import parameter_counts
from schemas.schedule import build_schedule
from schemas.sharing import Shared, distinct_parameters, shared_parts
from schemas.start import DEFAULT_BRANCH
from schemas.training import RunSettings

_BYTES = 8
_MOMENTS = 2
"""Moments of Adam, stored beside each parameter."""


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
    num_steps, branches = branches_of(config) if with_data else branches_without_data(config)
    schedule = build_schedule(config.learning_rate, num_steps)
    if isinstance(config, Input):
        models = {DEFAULT_BRANCH: config.model}
        losses = {DEFAULT_BRANCH: config.loss}
        links = []
    else:
        models, losses, links = config.model.model_dict, config.loss_dict, config.links
    last_lr = config.learning_rate.last_lr
    total = distinct_parameters(links, models)
    return RunPlan(
        num_steps=num_steps,
        warmup_steps=schedule.warmup_steps,
        stop_step=step_at_rate(schedule, last_lr),
        last_lr=last_lr,
        milestones=milestones(schedule, losses, last_lr),
        branches=branches,
        parameters={name: parameter_counts(model) for name, model in models.items()},
        num_parameters=total,
        shared=shared_parts(links, models),
        disk=disk_use(config.training, num_steps, total),
        memory=_memory(models, branches, total, neighbors) if with_data else None,
    )


def disk_use(training: RunSettings, num_steps: int, num_parameters: int) -> DiskUse:
    """Return what checkpoints take, all numbers in double precision."""
    ratio, every = training.ckpt_keep_ratio, training.save_freq
    written = max(1, -(-num_steps // every))
    keep = keep_count(ratio, num_steps, every, training.max_ckpt_keep)
    average = training.ema_ckpt_keep or training.max_ckpt_keep
    keep_average = keep_count(ratio, num_steps, every, average) if training.enable_ema else 0
    plain = num_parameters * _BYTES
    moments = plain * (_MOMENTS + training.enable_ema)  # restarts need the running mean too
    return DiskUse(
        checkpoint=plain + moments,
        num_checkpoints=min(keep, written),
        averaged=plain if training.enable_ema else 0,
        num_averaged=min(keep_average, written),
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
