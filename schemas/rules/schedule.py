"""Rules about the learning rate."""

import math
from collections.abc import Iterator

from schemas.input import Input
from schemas.loss import PREFACTORS
from schemas.rules.loss import term_is_on
from schemas.rules.rule import Fault, note, rule, warning

_NEAR = 2.0
_UNCHANGED = 0.99
_SOON = 0.1
_TRIAL = 100
"""Steps of a run that only tries whether it works."""


@rule("ZOO301", "stop_lr <= start_lr")
def learning_rate_falls(config: Input) -> Iterator[Fault]:
    """Demand that the last learning rate is not above the first."""
    schedule = config.learning_rate
    if schedule.stop_lr_ratio is not None and schedule.stop_lr_ratio > 1:
        message = f"stop_lr_ratio ({schedule.stop_lr_ratio:g}) must be <= 1"
        yield Fault("learning_rate.stop_lr_ratio", message)
    elif schedule.stop_lr is not None and schedule.stop_lr > schedule.start_lr:
        message = f"stop_lr ({schedule.stop_lr:g}) must be <= start_lr ({schedule.start_lr:g})"
        yield Fault("learning_rate.stop_lr", message, "are the two swapped?")


@rule("ZOO302", "stop_lr or stop_lr_ratio, not both")
def one_end(config: Input) -> Iterator[Fault]:
    """Demand that the last learning rate is given in one way."""
    schedule = config.learning_rate
    both = {"stop_lr", "stop_lr_ratio"} <= schedule.model_fields_set
    if both and schedule.stop_lr is not None and schedule.stop_lr_ratio is not None:
        yield Fault("learning_rate.stop_lr_ratio", "give stop_lr or stop_lr_ratio, not both")


@rule("ZOO303", "warmup_steps or warmup_ratio, not both")
def one_warmup(config: Input) -> Iterator[Fault]:
    """Demand that the warm-up is given in one way."""
    schedule = config.learning_rate
    if schedule.warmup_steps and schedule.warmup_ratio is not None:
        yield Fault("learning_rate.warmup_ratio", "give warmup_steps or warmup_ratio, not both")


@rule("ZOO304", "warmup_steps < numb_steps")
def warmup_ends(config: Input) -> Iterator[Fault]:
    """Demand that the warm-up is shorter than the run."""
    steps, warmup = config.training.numb_steps, config.learning_rate.warmup_steps
    if steps is not None and warmup and warmup >= steps:
        message = f"warmup_steps ({warmup}) must be < numb_steps ({steps})"
        yield Fault("learning_rate.warmup_steps", message)


@rule("ZOO305", "decay_steps < numb_steps")
def decay_happens(config: Input) -> Iterator[Fault]:
    """Warn of a decay interval as long as the run, which deepmd-kit replaces silently."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    if schedule.type != "exp" or not steps:
        return
    decay = schedule.decay_steps
    left = steps - schedule.warmup_steps
    if schedule.decay_rate is None and decay >= left > 0:
        used = 100 if left // 10 > 100 else left // 100 + 1
        message = f"decay_steps ({decay}) >= numb_steps ({steps}): {used} is used instead"
        yield warning("learning_rate.decay_steps", message, f"write {used} if that is meant")


@rule("ZOO306", "stop_lr > 0")
def learning_rate_stays_positive(config: Input) -> Iterator[Fault]:
    """Refuse a learning rate that ends at 0 where that divides by zero; warn elsewhere."""
    schedule = config.learning_rate
    for name in ("stop_lr", "stop_lr_ratio"):
        if getattr(schedule, name) != 0:
            continue
        path = f"learning_rate.{name}"
        if schedule.type == "wsd":
            yield Fault(path, f"{name} must be > 0 for wsd")
        elif schedule.type == "exp":
            yield warning(path, f"{name} is 0: the decay rate is computed as if it were 1e-10")


@rule("ZOO307", "stop_lr is reached")
def last_rate_is_reached(config: Input) -> Iterator[Fault]:
    """Note that `decay_rate` decides about the last learning rate where both are given."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    if schedule.type != "exp" or schedule.decay_rate is None or not steps:
        return
    wanted = schedule.stop_lr
    if wanted is None or wanted <= 0 or "stop_lr" not in schedule.model_fields_set:
        return
    decays = (steps - 1 - schedule.warmup_steps) // schedule.decay_steps
    last = max(schedule.start_lr * schedule.decay_rate**decays, wanted)
    if last > _NEAR * wanted:
        message = f"stop_lr ({wanted:g}) is never reached: decay_rate leads to {last:.2g}"
        hint = "remove decay_rate to reach stop_lr, or stop_lr to say what happens"
        yield note("learning_rate.stop_lr", message, hint)


@rule("ZOO358", "the learning rate falls in the course of the run")
def decay_is_gradual(config: Input) -> Iterator[Fault]:
    """Warn of a rate that never falls (the loss then keeps its first weights), or falls at once."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    start, stop = schedule.start_lr, schedule.last_lr
    told = ": the weights of the loss stay at start_pref" if _weights_vary(config) else ""
    if schedule.type != "exp" or schedule.decay_rate is None:
        if start * _UNCHANGED < stop <= start:
            message = f"the learning rate stays at {start:g}{told}"
            yield warning(f"learning_rate.{_end(config)}", message, "give a smaller one")
        return
    if not steps:
        if schedule.decay_rate > 1 - 1e-9:
            message = f"decay_rate is 1: the learning rate stays at {start:g}{told}"
            yield warning("learning_rate.decay_rate", message)
        return
    left = steps - schedule.warmup_steps
    decays = (left - 1) // schedule.decay_steps if left > 0 else 0
    last = max(start * schedule.decay_rate**decays, min(stop, start))
    if last > _UNCHANGED * start and steps > _TRIAL:
        path = "learning_rate." + ("decay_rate" if decays else "decay_steps")
        value = schedule.decay_rate if decays else schedule.decay_steps
        message = f"{path[14:]} is {value:g}: the learning rate stays at {start:g}{told}"
        yield warning(path, message, "remove decay_rate to reach stop_lr at the last step")
        return
    if stop > 0 and schedule.decay_rate < 1:
        needed = math.log(stop / start) / math.log(schedule.decay_rate) * schedule.decay_steps
        if stop < start and needed < _SOON * left:
            message = (
                f"with decay_rate {schedule.decay_rate:g} every {schedule.decay_steps} steps the "
                f"learning rate is at its end, {stop:g}, after {needed:.0f} of {steps} steps"
            )
            hint = "remove decay_rate to reach stop_lr at the last step"
            yield warning("learning_rate.decay_rate", message, hint)


def _end(config: Input) -> str:
    """Return the key that says the last learning rate."""
    return "stop_lr" if config.learning_rate.stop_lr is not None else "stop_lr_ratio"


def _weights_vary(config: Input) -> bool:
    loss = config.loss
    return any(
        term_is_on(loss, suffix)
        and getattr(loss, f"start_pref_{suffix}") != getattr(loss, f"limit_pref_{suffix}")
        for suffix in PREFACTORS
    )


@rule("ZOO359", "the warm-up is a small part of the run")
def warmup_is_short(config: Input) -> Iterator[Fault]:
    """Warn of a warm-up longer than half of the run."""
    steps, warmup = config.training.numb_steps, config.learning_rate.warmup_steps
    if steps and steps / 2 < warmup < steps:
        message = f"warmup_steps ({warmup}) is more than half of numb_steps ({steps})"
        yield warning("learning_rate.warmup_steps", message, "a hundredth of the run is usual")
