"""Rules about the sizes and switches of the networks."""

from collections.abc import Iterator

from schemas.descriptor import Repformer
from schemas.diagnostics import Group, Severity
from schemas.given_energies import preset_faults
from schemas.input import Input
from schemas.network import canonical_precision
from schemas.parameter_count import parameter_counts
from schemas.rules.rule import Fault, rule, warning

_REPINIT = "model.descriptor.repinit"
_REPFORMER = "model.descriptor.repformer"
_FITTING = "model.fitting_net"
_PRECISION = Group("precision", "file")


@rule("ZOO221", "repinit.axis_neuron <= repinit.neuron[-1]")
def repinit_axis_fits(config: Input) -> Iterator[Fault]:
    """Demand that the axis is a part of the embedding."""
    block = config.model.descriptor.repinit
    if block.axis_neuron > block.neuron[-1]:
        message = f"axis_neuron ({block.axis_neuron}) must be <= neuron[-1] ({block.neuron[-1]})"
        yield Fault(f"{_REPINIT}.axis_neuron", message)


@rule("ZOO222", "repformer.axis_neuron <= g1_dim and g2_dim")
def repformer_axis_fits(config: Input) -> Iterator[Fault]:
    """Demand that the axis is a part of the representations that it cuts."""
    block = config.model.descriptor.repformer
    for name in ("g2_dim", "g1_dim"):
        width = getattr(block, name)
        if block.axis_neuron > width:
            message = f"axis_neuron ({block.axis_neuron}) must be <= {name} ({width})"
            yield Fault(f"{_REPFORMER}.axis_neuron", message)
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
        yield Fault(f"{_REPFORMER}.update_g1_has_conv", message, hint)


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
        yield warning(f"{_REPFORMER}.attn2_hidden", message)


@rule("ZOO225", "attn1_* keys are used")
def atom_attention_is_used(config: Input) -> Iterator[Fault]:
    """Warn if the atoms' attention was tuned but is off."""
    block = config.model.descriptor.repformer
    if block.update_g1_has_attn or "attn1_hidden" not in block.model_fields_set:
        return
    usual = (Repformer.model_fields["attn1_hidden"].default, block.g1_dim)
    if block.nlayers > 0 and block.attn1_hidden not in usual and block.attn1_hidden > block.g1_dim:
        message = "`attn1_hidden` is set, but `update_g1_has_attn` is false: it has no effect"
        yield warning(f"{_REPFORMER}.attn1_hidden", message)


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
    "repformer": f"{_REPFORMER}",
    "repinit to repformer": f"{_REPFORMER}.g1_dim",
    "repinit": f"{_REPINIT}.neuron",
    "three-body block": f"{_REPINIT}.three_body_neuron",
    "type embedding": f"{_REPINIT}.tebd_dim",
}
"""Where each part of a network is written."""
