"""Rules about cutoffs and numbers of neighbours."""

from collections.abc import Iterator

from schemas.descriptor import Repinit
from schemas.input import Input
from schemas.partial import UnusableError
from schemas.rules.rule import Fault, rule, warning

_DESCRIPTOR = "model.descriptor"
_REPINIT = f"{_DESCRIPTOR}.repinit"
_REPFORMER = f"{_DESCRIPTOR}.repformer"
_THREE_BODY = ("three_body_rcut", "three_body_rcut_smth", "three_body_sel", "three_body_neuron")
_LARGE_RCUT = 12.0
_ABSURD_RCUT = 100.0
_SMALL_RCUT = 1.5


def _narrow_switch(path: str, rcut_smth: float, rcut: float) -> Iterator[Fault]:
    if rcut_smth >= rcut:
        name = path.rpartition(".")[2]
        message = f"`{name}` ({rcut_smth:g}) must be < `{name[:-5]}` ({rcut:g}): no room to switch"
        yield Fault(path, message, "the smooth switch goes from 1 to 0 between the two")


@rule("ZOO201", "repinit: rcut_smth < rcut")
def repinit_switch_has_width(config: Input) -> Iterator[Fault]:
    """Demand a smooth switch of positive width in repinit."""
    block = config.model.descriptor.repinit
    yield from _narrow_switch(f"{_REPINIT}.rcut_smth", block.rcut_smth, block.rcut)


@rule("ZOO202", "repformer: rcut_smth < rcut")
def repformer_switch_has_width(config: Input) -> Iterator[Fault]:
    """Demand a smooth switch of positive width in repformer."""
    block = config.model.descriptor.repformer
    yield from _narrow_switch(f"{_REPFORMER}.rcut_smth", block.rcut_smth, block.rcut)


@rule("ZOO203", "three-body block: rcut_smth < rcut")
def three_body_switch_has_width(config: Input) -> Iterator[Fault]:
    """Demand a smooth switch of positive width in the three-body block, where it is used."""
    block = config.model.descriptor.repinit
    if block.use_three_body:
        path = f"{_REPINIT}.three_body_rcut_smth"
        rcut, rcut_smth = block.three_body_rcut, block.three_body_rcut_smth
        if rcut_smth >= rcut:
            message = (
                f"`three_body_rcut_smth` ({rcut_smth:g}) must be < `three_body_rcut` ({rcut:g})"
            )
            yield Fault(path, message, "the smooth switch goes from 1 to 0 between the two")


@rule("ZOO204", "repformer.rcut < repinit.rcut")
def repformer_sees_less_far(config: Input) -> Iterator[Fault]:
    """Demand that repformer's cutoff is smaller than repinit's: its list is a part of that."""
    outer, inner = config.model.descriptor.repinit.rcut, config.model.descriptor.repformer.rcut
    if inner >= outer:
        message = f"repformer.rcut ({inner:g}) must be < repinit.rcut ({outer:g})"
        yield Fault(f"{_REPFORMER}.rcut", message)


@rule("ZOO205", "repformer.nsel < repinit.nsel")
def repformer_selects_fewer(config: Input) -> Iterator[Fault]:
    """Demand that repformer selects fewer neighbours than repinit."""
    outer, inner = config.model.descriptor.repinit.nsel, config.model.descriptor.repformer.nsel
    if isinstance(outer, int) and isinstance(inner, int) and inner >= outer:
        message = f"repformer.nsel ({inner}) must be < repinit.nsel ({outer})"
        yield Fault(f"{_REPFORMER}.nsel", message)


@rule("ZOO206", "three_body_rcut <= repinit.rcut")
def three_body_sees_no_further(config: Input) -> Iterator[Fault]:
    """Demand that the three-body cutoff is within repinit's; beyond it neighbours are missing."""
    block = config.model.descriptor.repinit
    if block.use_three_body and block.three_body_rcut > block.rcut:
        message = f"three_body_rcut ({block.three_body_rcut:g}) must be <= rcut ({block.rcut:g})"
        yield Fault(f"{_REPINIT}.three_body_rcut", message)


@rule("ZOO207", "three_body_sel <= repinit.nsel")
def three_body_selects_no_more(config: Input) -> Iterator[Fault]:
    """Demand that the three-body block selects no more neighbours than repinit."""
    block = config.model.descriptor.repinit
    inner, outer = block.three_body_sel, block.nsel
    if block.use_three_body and isinstance(inner, int) and isinstance(outer, int) and inner > outer:
        message = f"three_body_sel ({inner}) must be <= nsel ({outer})"
        yield Fault(f"{_REPINIT}.three_body_sel", message)


@rule("ZOO208", "a larger cutoff never selects fewer neighbours")
def selections_follow_cutoffs(config: Input) -> Iterator[Fault]:
    """Demand that three-body block and repformer have cutoff and selection in the same order."""
    block, layers = config.model.descriptor.repinit, config.model.descriptor.repformer
    inner, outer = block.three_body_sel, layers.nsel
    if not block.use_three_body or not (isinstance(inner, int) and isinstance(outer, int)):
        return
    further = block.three_body_rcut - layers.rcut
    if further * (inner - outer) < 0:
        word, sign = ("larger", "more") if further > 0 else ("smaller", "fewer")
        message = (
            f"three_body_rcut ({block.three_body_rcut:g}) is {word} than repformer.rcut "
            f"({layers.rcut:g}), but three_body_sel ({inner}) is not {sign} than "
            f"repformer.nsel ({outer})"
        )
        yield Fault(f"{_REPINIT}.three_body_sel", message)


@rule("ZOO209", "three selections taken from the data may come out in another order")
def selections_from_data(config: Input) -> Iterator[Fault]:
    """Warn if all three selections are `auto`: their order is then up to the data."""
    block = config.model.descriptor.repinit
    chosen = (block.nsel, block.three_body_sel, config.model.descriptor.repformer.nsel)
    if block.use_three_body and all(isinstance(value, str) for value in chosen):
        message = "all three selections are taken from the data, which may not fit each other"
        yield warning(
            f"{_REPINIT}.three_body_sel", message, "set them to the numbers of a first run"
        )


@rule("ZOO210", "cutoffs stay within the usual")
def usual_cutoff(config: Input) -> Iterator[Fault]:
    """Warn of a cutoff that makes thousands of neighbours; refuse one that makes millions."""
    rcut = config.model.descriptor.repinit.rcut
    if rcut > _ABSURD_RCUT:
        message = f"rcut ({rcut:g} Å) is beyond any model: millions of neighbours"
        yield Fault(f"{_REPINIT}.rcut", message, "6 to 9 Å are usual")
    elif rcut > _LARGE_RCUT:
        message = f"rcut ({rcut:g} Å) is far above the usual 6 to 9 Å: thousands of neighbours"
        yield warning(f"{_REPINIT}.rcut", message)


@rule("ZOO213", "cutoffs are in Å")
def cutoff_in_angstrom(config: Input) -> Iterator[Fault]:
    """Warn of a cutoff within which no atom has a neighbour: it looks like nm."""
    rcut = config.model.descriptor.repinit.rcut
    if rcut < _SMALL_RCUT:
        message = f"rcut ({rcut:g} Å) is shorter than most bonds: lengths are in Å, not in nm"
        yield warning(f"{_REPINIT}.rcut", message, f"did you mean {10 * rcut:g}?")


@rule("ZOO211", "three_body_* keys are used")
def three_body_keys_are_used(config: Input) -> Iterator[Fault]:
    """Warn if the three-body block is described but off."""
    block = config.model.descriptor.repinit
    given = [name for name in _THREE_BODY if _differs(block, name)]
    if not block.use_three_body and given:
        message = f"`{given[0]}` is set, but `use_three_body` is false: it has no effect"
        yield warning(f"{_REPINIT}.use_three_body", message, "set `use_three_body` to true?")


@rule("ZOO212", "a three-body block is described")
def three_body_is_described(config: Input) -> Iterator[Fault]:
    """Warn if the three-body block is on and nothing is said about it."""
    block = config.model.descriptor.repinit
    if block.use_three_body and not block.model_fields_set & set(_THREE_BODY):
        message = (
            "`use_three_body` is on with the defaults: cutoff 4 Å, switch from 0.5 Å, 40 neighbours"
        )
        yield warning(
            f"{_REPINIT}.three_body_rcut", message, "set three_body_rcut, _rcut_smth and _sel"
        )


def _differs(block: Repinit, name: str) -> bool:
    """Return whether a key was written with a value other than its default."""
    if name not in block.model_fields_set:
        return False
    try:
        return bool(getattr(block, name) != Repinit.model_fields[name].default)
    except UnusableError:
        return True
