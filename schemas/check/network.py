"""Rules about the network: cutoffs, numbers of neighbours, sizes and switches."""

import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

from schemas.base.diagnostics import Finding, Group, Severity
from schemas.check.rule import fault, rule, warning
from schemas.input.descriptor import Repformer
from schemas.input.root import Input
from schemas.input.section import canonical_precision
from schemas.input.view import is_changed
from schemas.input.weights import parameter_counts

_REPINIT = "model.descriptor.repinit"
_REPFORMER = "model.descriptor.repformer"
_FITTING = "model.fitting_net"
_SWITCH = "no room to switch: the smooth switch goes from 1 to 0 between the two"
_SIGNS = {"<": operator.lt, "<=": operator.le}
_ORDERED: tuple[tuple[str, str, str, str, str | None], ...] = (
    ("ZOO201", "repinit.rcut_smth", "<", "repinit.rcut", _SWITCH),
    ("ZOO202", "repformer.rcut_smth", "<", "repformer.rcut", _SWITCH),
    ("ZOO203", "repinit.three_body_rcut_smth", "<", "repinit.three_body_rcut", _SWITCH),
    ("ZOO204", "repformer.rcut", "<", "repinit.rcut", None),
    ("ZOO205", "repformer.nsel", "<", "repinit.nsel", None),
    ("ZOO206", "repinit.three_body_rcut", "<=", "repinit.rcut", None),
    ("ZOO207", "repinit.three_body_sel", "<=", "repinit.nsel", None),
    ("ZOO221", "repinit.axis_neuron", "<=", "repinit.neuron[-1]", None),
)
"""Pairs of keys of the descriptor whose order is fixed: code, the smaller, sign, the larger, hint.

The list of the repformer is a part of the repinit's, the axis a part of the embedding.
"""


def _are_ordered(low: str, sign: str, high: str, hint: str | None, config: Input) -> Iterator[Any]:
    """Demand two values in their order; keys of a three-body block that is off do not count."""
    descriptor = config.model.descriptor
    if "three_body" in low and not descriptor.repinit.use_three_body:
        return
    small, large = _value(descriptor, low), _value(descriptor, high)
    if isinstance(small, str) or isinstance(large, str) or _SIGNS[sign](small, large):
        return  # `auto` is looked at with the data
    blocks = {name.partition(".")[0] for name in (low, high)}
    names = [name if len(blocks) > 1 else name.partition(".")[2] for name in (low, high)]
    message = f"{names[0]} ({small:g}) must be {sign} {names[1]} ({large:g})"
    yield fault(f"model.descriptor.{low}", message, hint)


def _value(descriptor: Any, name: str) -> Any:
    block, _, key = name.partition(".")
    found = getattr(getattr(descriptor, block), key.removesuffix("[-1]"))
    return found[-1] if isinstance(found, list) else found


for _code, _low, _sign, _high, _hint in _ORDERED:
    rule(_code, f"{_low} {_sign} {_high}")(partial(_are_ordered, _low, _sign, _high, _hint))


@rule("ZOO208", "a larger cutoff never selects fewer neighbours")
def selections_follow_cutoffs(config: Input) -> Iterator[Finding]:
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
        yield fault(f"{_REPINIT}.three_body_sel", message)


@rule("ZOO209", "three selections taken from the data may come out in another order")
def selections_from_data(config: Input) -> Iterator[Finding]:
    """Warn if all three selections are `auto`: their order is then up to the data."""
    block = config.model.descriptor.repinit
    chosen = (block.nsel, block.three_body_sel, config.model.descriptor.repformer.nsel)
    if block.use_three_body and all(isinstance(value, str) for value in chosen):
        message = "all three selections are taken from the data, which may not fit each other"
        hint = "set them to the numbers of a first run"
        yield warning(f"{_REPINIT}.three_body_sel", message, hint)


_LARGE_RCUT, _ABSURD_RCUT, _SMALL_RCUT = 12.0, 100.0, 1.5


@rule("ZOO210", "cutoffs stay within the usual")
def usual_cutoff(config: Input) -> Iterator[Finding]:
    """Warn of a cutoff that makes thousands of neighbours; refuse one that makes millions."""
    rcut = config.model.descriptor.repinit.rcut
    if rcut > _ABSURD_RCUT:
        message = f"rcut ({rcut:g} Å) is beyond any model: millions of neighbours"
        yield fault(f"{_REPINIT}.rcut", message, "6 to 9 Å are usual")
    elif rcut > _LARGE_RCUT:
        message = f"rcut ({rcut:g} Å) is far above the usual 6 to 9 Å: thousands of neighbours"
        yield warning(f"{_REPINIT}.rcut", message)


@rule("ZOO213", "cutoffs are in Å")
def cutoff_in_angstrom(config: Input) -> Iterator[Finding]:
    """Warn of a cutoff within which no atom has a neighbour: it looks like nm."""
    rcut = config.model.descriptor.repinit.rcut
    if rcut < _SMALL_RCUT:
        message = f"rcut ({rcut:g} Å) is shorter than most bonds: lengths are in Å, not in nm"
        yield warning(f"{_REPINIT}.rcut", message, f"did you mean {10 * rcut:g}?")


_THREE_BODY = ("three_body_rcut", "three_body_rcut_smth", "three_body_sel", "three_body_neuron")


@rule("ZOO211", "three_body_* keys are used")
def three_body_keys_are_used(config: Input) -> Iterator[Finding]:
    """Warn if the three-body block is described but off."""
    block = config.model.descriptor.repinit
    given = [name for name in _THREE_BODY if is_changed(block, name)]
    if not block.use_three_body and given:
        message = f"`{given[0]}` is set, but `use_three_body` is false: it has no effect"
        yield warning(f"{_REPINIT}.use_three_body", message, "set `use_three_body` to true?")


@rule("ZOO212", "a three-body block is described")
def three_body_is_described(config: Input) -> Iterator[Finding]:
    """Warn if the three-body block is on and nothing is said about it."""
    block = config.model.descriptor.repinit
    if block.use_three_body and not block.model_fields_set & set(_THREE_BODY):
        message = (
            "`use_three_body` is on with the defaults: cutoff 4 Å, switch from 0.5 Å, 40 neighbours"
        )
        hint = "set three_body_rcut, _rcut_smth and _sel"
        yield warning(f"{_REPINIT}.three_body_rcut", message, hint)


@rule("ZOO222", "repformer.axis_neuron <= g1_dim and g2_dim")
def repformer_axis_fits(config: Input) -> Iterator[Finding]:
    """Demand that the axis is a part of the representations that it cuts."""
    block = config.model.descriptor.repformer
    for name in ("g2_dim", "g1_dim"):
        width = getattr(block, name)
        if block.axis_neuron > width:
            message = f"axis_neuron ({block.axis_neuron}) must be <= {name} ({width})"
            yield fault(f"{_REPFORMER}.axis_neuron", message)
            return


@rule("ZOO223", "some update of g1 enters the concatenation")
def atoms_are_updated(config: Input) -> Iterator[Finding]:
    """Demand that the layer that joins the updates of atoms has an input."""
    block = config.model.descriptor.repformer
    joined = (
        not block.g1_out_mlp,
        block.update_g1_has_conv and not block.g1_out_conv,
        block.update_g1_has_grrg,
        block.update_g1_has_drrd,
    )
    if block.nlayers > 0 and not any(joined):
        message = "no g1 update is enabled that enters the joining layer: it has no input"
        hint = "enable update_g1_has_grrg or update_g1_has_drrd, or set g1_out_mlp to false"
        yield fault(f"{_REPFORMER}.update_g1_has_conv", message, hint)


@rule("ZOO224", "attn2_hidden is a multiple of attn2_nhead")
def usual_pair_attention(config: Input) -> Iterator[Finding]:
    """Warn of an odd width: legal, because the width is per head, but it looks like a mistake."""
    block = config.model.descriptor.repformer
    used = block.update_g2_has_attn or block.update_h2
    if used and block.attn2_hidden % block.attn2_nhead:
        message = (
            f"attn2_hidden ({block.attn2_hidden}) is no multiple of attn2_nhead "
            f"({block.attn2_nhead}): legal, since it is the width of one head, but unusual"
        )
        yield warning(f"{_REPFORMER}.attn2_hidden", message)


@rule("ZOO225", "attn1_* keys are used")
def atom_attention_is_used(config: Input) -> Iterator[Finding]:
    """Warn if the atoms' attention was tuned but is off."""
    block = config.model.descriptor.repformer
    if block.update_g1_has_attn or "attn1_hidden" not in block.model_fields_set:
        return
    usual = (Repformer.model_fields["attn1_hidden"].default, block.g1_dim)
    if block.nlayers > 0 and block.attn1_hidden not in usual and block.attn1_hidden > block.g1_dim:
        message = "`attn1_hidden` is set, but `update_g1_has_attn` is false: it has no effect"
        yield warning(f"{_REPFORMER}.attn1_hidden", message)


_PRECISION = Group("precision", "file")


@rule("ZOO226", "precision is enough for energies")
def enough_precision(config: Input) -> Iterator[Finding]:
    """Warn of 16-bit parameters."""
    for path, precision in (
        ("model.descriptor.precision", config.model.descriptor.precision),
        (f"{_FITTING}.precision", config.model.fitting_net.precision),
    ):
        if canonical_precision(precision) in ("bfloat16", "float16"):
            message = f"{precision} keeps two to three digits: energies and forces are that coarse"
            yield warning(path, message, 'use "float64" or "float32"', group=_PRECISION)


@rule("ZOO344", "descriptor and fitting net have one precision")
def precision_is_one(config: Input) -> Iterator[Finding]:
    """Warn of networks of different precision, most often a key that was forgotten."""
    descriptor = canonical_precision(config.model.descriptor.precision)
    fitting = canonical_precision(config.model.fitting_net.precision)
    if descriptor != fitting:
        message = f"the descriptor computes in {descriptor}, the fitting net in {fitting}"
        hint = "the coarser one decides how exact energies are; write one `precision` in both"
        yield warning(f"{_FITTING}.precision", message, hint)


@rule("ZOO227", "something is trained")
def something_is_trained(config: Input) -> Iterator[Finding]:
    """Warn if neither descriptor nor fitting net is trained."""
    fitting = config.model.fitting_net.trainable
    trained = all(fitting) if isinstance(fitting, list) else fitting
    if not config.model.descriptor.trainable and not trained:
        message = "descriptor and fitting_net are both not trainable: nothing is trained"
        yield warning("model.descriptor.trainable", message)


@rule("ZOO228", "default_fparam has numb_fparam entries")
def default_frame_parameters_fit(config: Input) -> Iterator[Finding]:
    """Demand as many default frame parameters as there are frame parameters."""
    given, number = config.model.fitting_net.default_fparam, config.model.fitting_net.numb_fparam
    if given is not None and len(given) != number:
        message = f"default_fparam has {len(given)} entries, numb_fparam is {number}"
        hint = "write one number for each frame parameter"
        yield fault(f"{_FITTING}.default_fparam", message, hint)


@rule("ZOO229", "atom_ener has an entry for each type")
def atom_energies_fit(config: Input) -> Iterator[Finding]:
    """Demand one energy a type, and warn that the values themselves are not used."""
    given = config.model.fitting_net.atom_ener
    number = len(config.model.type_map)
    path = f"{_FITTING}.atom_ener"
    if given and len(given) != number:
        hint = "write an energy, or null, for each type, in the order of type_map"
        yield fault(path, f"atom_ener has {len(given)} entries for {number} types", hint)
    elif any(value is not None for value in given):
        message = (
            "the values of atom_ener are not used: they only make an isolated atom's net energy 0"
        )
        yield warning(path, message, "preset_out_bias sets energies of types")


@rule("ZOO230", "dim_case_embd is for multi-task training", scope="single-task")
def no_case_in_single_task(config: Input) -> Iterator[Finding]:
    """Warn of a case embedding in a single task, where it is a vector of zeros."""
    if config.model.fitting_net.dim_case_embd > 0:
        message = "dim_case_embd has no effect in a single task"
        yield warning(f"{_FITTING}.dim_case_embd", message, "remove it")


_MANY_PARAMETERS, _TOO_MANY_PARAMETERS = 10**9, 10**10
_BYTES = 32
"""Of a parameter in training: itself, its gradient and two moments, in float64."""
_LARGEST = {
    "fitting net": f"{_FITTING}.neuron",
    "repformer": _REPFORMER,
    "repinit to repformer": f"{_REPFORMER}.g1_dim",
    "repinit": f"{_REPINIT}.neuron",
    "three-body block": f"{_REPINIT}.three_body_neuron",
    "type embedding": f"{_REPINIT}.tebd_dim",
}
"""Where each part of a network is written."""


@rule("ZOO245", "the network fits into a computer")
def network_fits(config: Input) -> Iterator[Finding]:
    """Refuse a network that no computer holds; warn of one that most do not."""
    counts = parameter_counts(config.model)
    number = sum(counts.values())
    if number > _MANY_PARAMETERS:
        part = max(counts, key=lambda name: counts[name])
        message = (
            f"the model has {number:.2g} parameters, most of them in the {part}: training takes "
            f"{number * _BYTES / 2**30:,.0f} GiB for them alone"
        )
        hint = "models of 10 million parameters are large; look for a width with a digit too many"
        severity: Severity = "error" if number > _TOO_MANY_PARAMETERS else "warning"
        yield fault(_LARGEST.get(part, "model.descriptor"), message, hint, severity)
