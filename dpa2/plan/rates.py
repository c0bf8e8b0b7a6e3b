"""Learning rate and weights of the loss at milestones of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.loss import PREFACTORS, EnergyLoss
from schemas.rules.loss import term_is_on
from schemas.schedule import Schedule

PERCENTAGES = (0, 1, 10, 25, 50, 75, 90, 100)
_REACHED = 1 + 1e-9


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


def milestones(
    schedule: Schedule, losses: Mapping[str, EnergyLoss], last_lr: float
) -> list[Milestone]:
    """Return the milestones of a run in the order of their steps.

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
    return [_milestone(schedule, losses, step, ", ".join(names[step])) for step in sorted(names)]


def step_at_rate(schedule: Schedule, rate: float) -> int | None:
    """Return the first step (from 1) after the warm-up with a rate this small; None: no step.

    The rate never rises after the warm-up, so that bisection finds it.
    """
    low, high = schedule.warmup_steps, schedule.num_steps - 1
    if high < low or schedule.value(high) > rate * _REACHED:
        return None
    while low < high:
        middle = (low + high) // 2
        if schedule.value(middle) <= rate * _REACHED:
            high = middle
        else:
            low = middle + 1
    return low + 1


def _milestone(
    schedule: Schedule, losses: Mapping[str, EnergyLoss], step: int, name: str
) -> Milestone:
    rate = schedule.applied(step - 1)
    progress = rate / schedule.start_lr
    return Milestone(
        name, step, rate, {branch: _prefactors(loss, progress) for branch, loss in losses.items()}
    )


def _prefactors(loss: EnergyLoss, progress: float) -> dict[str, float]:
    """Return limit + (start - limit) * lr / start_lr of the terms that are on."""
    found = {}
    for suffix, name in PREFACTORS.items():
        if term_is_on(loss, suffix):
            start = float(getattr(loss, f"start_pref_{suffix}"))
            limit = float(getattr(loss, f"limit_pref_{suffix}"))
            found[name] = limit + (start - limit) * progress
    return found
