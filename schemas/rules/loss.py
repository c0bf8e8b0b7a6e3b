"""Rules about the loss."""

from collections.abc import Iterator

from schemas.input import Input
from schemas.loss import PREFACTORS, EnergyLoss
from schemas.rules.rule import Fault, rule, warning


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
