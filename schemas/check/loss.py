"""Rules about the loss and the learning rate."""

import math
from collections.abc import Iterator

from schemas.check.rule import Fault, note, rule, warning
from schemas.input.loss import PREFACTORS, EnergyLoss
from schemas.input.root import Input


def term_is_on(loss: EnergyLoss, suffix: str) -> bool:
    """Return whether a term of the loss exists: both weights non-zero (Hessian: either)."""
    start: float = getattr(loss, f"start_pref_{suffix}")
    limit: float = getattr(loss, f"limit_pref_{suffix}")
    return bool(start or limit) if suffix == "h" else bool(start and limit)


@rule("ZOO311", "both weights of a term are zero or neither is")
def no_half_weight(config: Input) -> Iterator[Fault]:
    """Warn of a term that one zero weight switches off altogether."""
    for suffix, name in PREFACTORS.items():
        start = getattr(config.loss, f"start_pref_{suffix}")
        limit = getattr(config.loss, f"limit_pref_{suffix}")
        if suffix != "h" and bool(start) != bool(limit):
            zero = f"limit_pref_{suffix}" if start else f"start_pref_{suffix}"
            message = f"`{zero}` is 0: that switches the whole {name} term off"
            hint = "give both weights, or set both to 0"
            yield warning(
                f"loss.{zero}", message, f"{hint}; a small weight such as 1e-6 keeps it on"
            )


@rule("ZOO312", "some term of the loss is on")
def something_is_learned(config: Input) -> Iterator[Fault]:
    """Demand at least one term."""
    if not any(term_is_on(config.loss, suffix) for suffix in PREFACTORS):
        yield Fault("loss", "all prefactors are zero: there is nothing to learn")


@rule("ZOO313", "the Huber loss has no relative, weighted, generalised or Hessian terms")
def huber_terms(config: Input) -> Iterator[Fault]:
    """Refuse terms that the Huber loss does not have."""
    if not config.loss.use_huber:
        return
    if config.loss.relative_f is not None:
        yield Fault("loss.relative_f", "relative_f does not go with use_huber")
    for suffix in ("pf", "gf", "h"):
        if term_is_on(config.loss, suffix):
            message = f"the {PREFACTORS[suffix]} term does not go with use_huber"
            yield Fault(f"loss.start_pref_{suffix}", message)


@rule("ZOO314", "f_use_norm goes with use_huber or loss_func mae")
def norm_needs_huber_or_mae(config: Input) -> Iterator[Fault]:
    """Demand a loss that can take the norm of forces."""
    loss = config.loss
    if loss.f_use_norm and not (loss.use_huber or loss.loss_func == "mae"):
        message = "f_use_norm needs use_huber or loss_func mae"
        yield Fault("loss.f_use_norm", message, 'add "use_huber": true or "loss_func": "mae"')


@rule("ZOO315", "generalised forces need numb_generalized_coord")
def generalised_coordinates_exist(config: Input) -> Iterator[Fault]:
    """Demand the number of generalised coordinates where their forces are learned."""
    if term_is_on(config.loss, "gf") and config.loss.numb_generalized_coord < 1:
        message = "the generalised force term needs numb_generalized_coord >= 1"
        yield Fault("loss.numb_generalized_coord", message)


_ABSURD_RATIO = 1e6
_RIGHT_WAY = {"e": "grows", "f": "falls", "pf": "falls"}
"""How weights go in inputs that train: forces lead at first, energies at last."""
_WRONG_WAY = 5.0


@rule("ZOO356", "weights go from start to limit as they should")
def weights_are_not_swapped(config: Input) -> Iterator[Fault]:
    """Warn of weights that look swapped, or that change by an absurd factor."""
    for suffix, name in PREFACTORS.items():
        start: float = getattr(config.loss, f"start_pref_{suffix}")
        limit: float = getattr(config.loss, f"limit_pref_{suffix}")
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
def force_leads(config: Input) -> Iterator[Fault]:
    """Warn of energy weights far above force weights all along: they look swapped."""
    loss = config.loss
    if term_is_on(loss, "e") and term_is_on(loss, "f"):
        first, last = (getattr(loss, f"{end}_pref_e") for end in ("start", "limit"))
        of_force = max(loss.start_pref_f, loss.limit_pref_f)
        if min(first, last) >= _SWAPPED * of_force:
            message = (
                f"energies weigh {first:g} to {last:g}, forces {of_force:g} at most: forces, of "
                "which there are three an atom, are hardly learned"
            )
            yield warning("loss.start_pref_e", message, "are energy and force swapped?")


_SWAPPED = 1000.0


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
