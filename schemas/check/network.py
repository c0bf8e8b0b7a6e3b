"""Rules about the network: cutoffs, numbers of neighbours, sizes and switches."""

from collections.abc import Iterator

from schemas.base.diagnostics import Group, Severity
from schemas.check.rule import Fault, rule, warning
from schemas.input.descriptor import Repformer, Repinit
from schemas.input.model import preset_faults
from schemas.input.root import Input
from schemas.input.section import canonical_precision
from schemas.input.view import UnusableError
from schemas.input.weights import parameter_counts

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


_REPINIT_PATH = "model.descriptor.repinit"
_REPFORMER_PATH = "model.descriptor.repformer"
_FITTING = "model.fitting_net"
_PRECISION = Group("precision", "file")


@rule("ZOO221", "repinit.axis_neuron <= repinit.neuron[-1]")
def repinit_axis_fits(config: Input) -> Iterator[Fault]:
    """Demand that the axis is a part of the embedding."""
    block = config.model.descriptor.repinit
    if block.axis_neuron > block.neuron[-1]:
        message = f"axis_neuron ({block.axis_neuron}) must be <= neuron[-1] ({block.neuron[-1]})"
        yield Fault(f"{_REPINIT_PATH}.axis_neuron", message)


@rule("ZOO222", "repformer.axis_neuron <= g1_dim and g2_dim")
def repformer_axis_fits(config: Input) -> Iterator[Fault]:
    """Demand that the axis is a part of the representations that it cuts."""
    block = config.model.descriptor.repformer
    for name in ("g2_dim", "g1_dim"):
        width = getattr(block, name)
        if block.axis_neuron > width:
            message = f"axis_neuron ({block.axis_neuron}) must be <= {name} ({width})"
            yield Fault(f"{_REPFORMER_PATH}.axis_neuron", message)
            return


@rule("ZOO223", "some update of g1 enters the concatenation")
def atoms_are_updated(config: Input) -> Iterator[Fault]:
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
        yield Fault(f"{_REPFORMER_PATH}.update_g1_has_conv", message, hint)


@rule("ZOO224", "attn2_hidden is a multiple of attn2_nhead")
def usual_pair_attention(config: Input) -> Iterator[Fault]:
    """Warn of an odd width: legal, because the width is per head, but it looks like a mistake."""
    block = config.model.descriptor.repformer
    used = block.update_g2_has_attn or block.update_h2
    if used and block.attn2_hidden % block.attn2_nhead:
        message = (
            f"attn2_hidden ({block.attn2_hidden}) is no multiple of attn2_nhead "
            f"({block.attn2_nhead}): legal, since it is the width of one head, but unusual"
        )
        yield warning(f"{_REPFORMER_PATH}.attn2_hidden", message)


@rule("ZOO225", "attn1_* keys are used")
def atom_attention_is_used(config: Input) -> Iterator[Fault]:
    """Warn if the atoms' attention was tuned but is off."""
    block = config.model.descriptor.repformer
    if block.update_g1_has_attn or "attn1_hidden" not in block.model_fields_set:
        return
    usual = (Repformer.model_fields["attn1_hidden"].default, block.g1_dim)
    if block.nlayers > 0 and block.attn1_hidden not in usual and block.attn1_hidden > block.g1_dim:
        message = "`attn1_hidden` is set, but `update_g1_has_attn` is false: it has no effect"
        yield warning(f"{_REPFORMER_PATH}.attn1_hidden", message)


@rule("ZOO226", "precision is enough for energies")
def enough_precision(config: Input) -> Iterator[Fault]:
    """Warn of 16-bit parameters."""
    for path, precision in (
        ("model.descriptor.precision", config.model.descriptor.precision),
        (f"{_FITTING}.precision", config.model.fitting_net.precision),
    ):
        if canonical_precision(precision) in ("bfloat16", "float16"):
            message = f"{precision} keeps two to three digits: energies and forces are that coarse"
            hint = 'use "float64" or "float32"'
            yield Fault(path, message, hint, "warning", group=_PRECISION)


@rule("ZOO227", "something is trained")
def something_is_trained(config: Input) -> Iterator[Fault]:
    """Warn if neither descriptor nor fitting net is trained."""
    fitting = config.model.fitting_net.trainable
    trained = all(fitting) if isinstance(fitting, list) else fitting
    if not config.model.descriptor.trainable and not trained:
        message = "descriptor and fitting_net are both not trainable: nothing is trained"
        yield warning("model.descriptor.trainable", message)


@rule("ZOO228", "default_fparam has numb_fparam entries")
def default_frame_parameters_fit(config: Input) -> Iterator[Fault]:
    """Demand as many default frame parameters as there are frame parameters."""
    fitting = config.model.fitting_net
    if fitting.default_fparam is not None and len(fitting.default_fparam) != fitting.numb_fparam:
        message = (
            f"default_fparam has {len(fitting.default_fparam)} entries, "
            f"numb_fparam is {fitting.numb_fparam}"
        )
        hint = "write one number for each frame parameter"
        yield Fault(f"{_FITTING}.default_fparam", message, hint)


@rule("ZOO229", "atom_ener has an entry for each type")
def atom_energies_fit(config: Input) -> Iterator[Fault]:
    """Demand one energy a type, and warn that the values themselves are not used."""
    given = config.model.fitting_net.atom_ener
    number = len(config.model.type_map)
    path = f"{_FITTING}.atom_ener"
    if given and len(given) != number:
        hint = "write an energy, or null, for each type, in the order of type_map"
        yield Fault(path, f"atom_ener has {len(given)} entries for {number} types", hint)
    elif any(value is not None for value in given):
        message = (
            "the values of atom_ener are not used: they only make an isolated atom's net energy 0"
        )
        yield warning(path, message, "preset_out_bias sets energies of types")


@rule("ZOO230", "dim_case_embd is for multi-task training", scope="single-task")
def no_case_in_single_task(config: Input) -> Iterator[Fault]:
    """Warn of a case embedding in a single task, where it is a vector of zeros."""
    if config.model.fitting_net.dim_case_embd > 0:
        message = "dim_case_embd has no effect in a single task"
        yield warning(f"{_FITTING}.dim_case_embd", message, "remove it")


@rule("ZOO231", "preset_out_bias has an energy, or null, for each type")
def preset_bias_fits(config: Input) -> Iterator[Fault]:
    """Demand one preset energy (or null) a type, of an output that the model has."""
    for fault in preset_faults(config.model):
        yield Fault(("model", *fault.path), fault.message, fault.hint)


_MANY_PARAMETERS = 10**9
_TOO_MANY_PARAMETERS = 10**10
_BYTES = 32
"""Of a parameter in training: itself, its gradient and two moments, in float64."""


@rule("ZOO245", "the network fits into a computer")
def network_fits(config: Input) -> Iterator[Fault]:
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
        yield Fault(_LARGEST.get(part, "model.descriptor"), message, hint, severity)


_LARGEST = {
    "fitting net": f"{_FITTING}.neuron",
    "repformer": f"{_REPFORMER_PATH}",
    "repinit to repformer": f"{_REPFORMER_PATH}.g1_dim",
    "repinit": f"{_REPINIT_PATH}.neuron",
    "three-body block": f"{_REPINIT_PATH}.three_body_neuron",
    "type embedding": f"{_REPINIT_PATH}.tebd_dim",
}
"""Where each part of a network is written."""
