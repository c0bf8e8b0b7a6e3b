"""Rules about the loss and the learning rate."""

import math
from collections.abc import Iterator

from schemas.base.diagnostics import Finding
from schemas.check.rule import fault, note, rule, warning
from schemas.input.loss import PREFACTORS, prefactors, term_is_on
from schemas.input.root import Input


@rule("ZOO311", "both weights of a term are zero or neither is")
def no_half_weight(config: Input) -> Iterator[Finding]:
    """Warn of a term that one zero weight switches off altogether."""
    for suffix, name in PREFACTORS.items():
        start, limit = prefactors(config.loss, suffix)
        if suffix != "h" and bool(start) != bool(limit):
            zero = f"limit_pref_{suffix}" if start else f"start_pref_{suffix}"
            message = f"`{zero}` is 0: that switches the whole {name} term off"
            hint = "give both weights, or set both to 0; a small weight such as 1e-6 keeps it on"
            yield warning(f"loss.{zero}", message, hint)


@rule("ZOO312", "some term of the loss is on")
def something_is_learned(config: Input) -> Iterator[Finding]:
    """Demand at least one term."""
    if not any(term_is_on(config.loss, suffix) for suffix in PREFACTORS):
        yield fault("loss", "all prefactors are zero: there is nothing to learn")


_ABSURD_RATIO, _WRONG_WAY, _SWAPPED = 1e6, 5.0, 1000.0
_RIGHT_WAY = {"e": "grows", "f": "falls", "pf": "falls"}
"""How weights go in inputs that train: forces lead at first, energies at last."""


@rule("ZOO356", "weights go from start to limit as they should")
def weights_are_not_swapped(config: Input) -> Iterator[Finding]:
    """Warn of weights that look swapped, or that change by an absurd factor."""
    for suffix, name in PREFACTORS.items():
        start, limit = prefactors(config.loss, suffix)
        if not (start and limit):
            continue
        path, growth = f"loss.start_pref_{suffix}", limit / start
        told = f"the {name} weight goes from {start:g} to {limit:g}"
        wrong = {"grows": 1 / growth, "falls": growth}.get(_RIGHT_WAY.get(suffix, ""), 0)
        if max(growth, 1 / growth) > _ABSURD_RATIO:
            yield warning(path, f"{told}: a factor of {max(growth, 1 / growth):.0g}")
        elif wrong >= _WRONG_WAY:
            message = f"{told}, but usually it {_RIGHT_WAY[suffix]}"
            yield warning(path, message, "are the two swapped?")


@rule("ZOO357", "weights of energies are those of energies")
def force_leads(config: Input) -> Iterator[Finding]:
    """Warn of energy weights far above force weights all along: they look swapped."""
    loss = config.loss
    if term_is_on(loss, "e") and term_is_on(loss, "f"):
        (first, last), of_force = prefactors(loss, "e"), max(prefactors(loss, "f"))
        if min(first, last) >= _SWAPPED * of_force:
            message = (
                f"energies weigh {first:g} to {last:g}, forces {of_force:g} at most: forces, of "
                "which there are three an atom, are hardly learned"
            )
            yield warning("loss.start_pref_e", message, "are energy and force swapped?")


@rule("ZOO301", "stop_lr <= start_lr")
def learning_rate_falls(config: Input) -> Iterator[Finding]:
    """Demand that the last learning rate is not above the first."""
    schedule = config.learning_rate
    if schedule.stop_lr_ratio is not None and schedule.stop_lr_ratio > 1:
        message = f"stop_lr_ratio ({schedule.stop_lr_ratio:g}) must be <= 1"
        yield fault("learning_rate.stop_lr_ratio", message)
    elif schedule.stop_lr is not None and schedule.stop_lr > schedule.start_lr:
        message = f"stop_lr ({schedule.stop_lr:g}) must be <= start_lr ({schedule.start_lr:g})"
        yield fault("learning_rate.stop_lr", message, "are the two swapped?")


@rule("ZOO302", "stop_lr or stop_lr_ratio, not both")
def one_end(config: Input) -> Iterator[Finding]:
    """Demand that the last learning rate is given in one way."""
    schedule = config.learning_rate
    both = {"stop_lr", "stop_lr_ratio"} <= schedule.model_fields_set
    if both and schedule.stop_lr is not None and schedule.stop_lr_ratio is not None:
        yield fault("learning_rate.stop_lr_ratio", "give stop_lr or stop_lr_ratio, not both")


@rule("ZOO303", "warmup_steps or warmup_ratio, not both")
def one_warmup(config: Input) -> Iterator[Finding]:
    """Demand that the warm-up is given in one way."""
    schedule = config.learning_rate
    if schedule.warmup_steps and schedule.warmup_ratio is not None:
        yield fault("learning_rate.warmup_ratio", "give warmup_steps or warmup_ratio, not both")


@rule("ZOO304", "warmup_steps < numb_steps")
def warmup_ends(config: Input) -> Iterator[Finding]:
    """Demand that the warm-up is shorter than the run."""
    steps, warmup = config.training.numb_steps, config.learning_rate.warmup_steps
    if steps is not None and warmup and warmup >= steps:
        message = f"warmup_steps ({warmup}) must be < numb_steps ({steps})"
        yield fault("learning_rate.warmup_steps", message)


@rule("ZOO359", "the warm-up is a small part of the run")
def warmup_is_short(config: Input) -> Iterator[Finding]:
    """Warn of a warm-up longer than half of the run."""
    steps, warmup = config.training.numb_steps, config.learning_rate.warmup_steps
    if steps and steps / 2 < warmup < steps:
        message = f"warmup_steps ({warmup}) is more than half of numb_steps ({steps})"
        yield warning("learning_rate.warmup_steps", message, "a hundredth of the run is usual")


@rule("ZOO305", "decay_steps < numb_steps")
def decay_happens(config: Input) -> Iterator[Finding]:
    """Warn of a decay interval as long as the run, which deepmd-kit replaces silently."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    if schedule.type != "exp" or not steps:
        return
    decay, left = schedule.decay_steps, steps - schedule.warmup_steps
    if schedule.decay_rate is None and decay >= left > 0:
        used = 100 if left // 10 > 100 else left // 100 + 1
        message = f"decay_steps ({decay}) >= numb_steps ({steps}): {used} is used instead"
        yield warning("learning_rate.decay_steps", message, f"write {used} if that is meant")


@rule("ZOO306", "stop_lr > 0")
def learning_rate_stays_positive(config: Input) -> Iterator[Finding]:
    """Refuse a learning rate that ends at 0 where that divides by zero; warn elsewhere."""
    schedule = config.learning_rate
    for name in ("stop_lr", "stop_lr_ratio"):
        if getattr(schedule, name) != 0:
            continue
        path = f"learning_rate.{name}"
        if schedule.type == "wsd":
            yield fault(path, f"{name} must be > 0 for wsd")
        elif schedule.type == "exp":
            yield warning(path, f"{name} is 0: the decay rate is computed as if it were 1e-10")


_NEAR, _UNCHANGED, _SOON = 2.0, 0.99, 0.1
_TRIAL = 100
"""Steps of a run that only tries whether it works."""


@rule("ZOO307", "stop_lr is reached")
def last_rate_is_reached(config: Input) -> Iterator[Finding]:
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
def decay_is_gradual(config: Input) -> Iterator[Finding]:
    """Warn of a rate that never falls (the loss then keeps its first weights), or falls at once."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    start, stop = schedule.start_lr, schedule.last_lr
    weights = (prefactors(config.loss, x) for x in PREFACTORS if term_is_on(config.loss, x))
    vary = any(first != last for first, last in weights)
    stays = f"the learning rate stays at {start:g}"
    stays += ": the weights of the loss stay at start_pref" if vary else ""
    if schedule.type != "exp" or schedule.decay_rate is None:
        if start * _UNCHANGED < stop <= start:
            key = "stop_lr" if schedule.stop_lr is not None else "stop_lr_ratio"
            yield warning(f"learning_rate.{key}", stays, "give a smaller one")
        return
    path, rate = "learning_rate.decay_rate", schedule.decay_rate
    if not steps:
        if rate > 1 - 1e-9:
            yield warning(path, f"decay_rate is 1: {stays}")
        return
    hint = "remove decay_rate to reach stop_lr at the last step"
    left = steps - schedule.warmup_steps
    decays = (left - 1) // schedule.decay_steps if left > 0 else 0
    last = max(start * rate**decays, min(stop, start))
    if last > _UNCHANGED * start and steps > _TRIAL:
        key, value = ("decay_rate", rate) if decays else ("decay_steps", schedule.decay_steps)
        yield warning(f"learning_rate.{key}", f"{key} is {value:g}: {stays}", hint)
    elif stop > 0 and rate < 1:
        needed = math.log(stop / start) / math.log(rate) * schedule.decay_steps
        if stop < start and needed < _SOON * left:
            message = (
                f"with decay_rate {rate:g} every {schedule.decay_steps} steps the "
                f"learning rate is at its end, {stop:g}, after {needed:.0f} of {steps} steps"
            )
            yield warning(path, message, hint)
