"""How many parameters a model has, part by part, from its configuration alone."""

from collections.abc import Sequence
from itertools import pairwise

from schemas.descriptor import Descriptor, Repformer, Repinit
from schemas.fitting import EnergyFitting
from schemas.model import Model

_ELECTRON_CONFIGURATION = 118
"""Numbers that describe an element where `use_econf_tebd` is on."""


def parameter_counts(model: Model) -> dict[str, int]:
    """Return the number of parameters of each part; parts that a model lacks are left out.

    They are counted as deepmd-kit has them; statistics and energy biases are no parameters.
    """
    descriptor = model.descriptor
    repinit, repformer = descriptor.repinit, descriptor.repformer
    counts = {
        "type embedding": _type_embedding(model),
        "repinit": _typed_embedding(repinit, repinit.neuron, one_side=repinit.type_one_side),
        "three-body block": (
            _typed_embedding(repinit, repinit.three_body_neuron, one_side=False)
            if repinit.use_three_body
            else 0
        ),
        "repinit to repformer": _between(descriptor),
        "repformer": _linear(1, repformer.g2_dim)
        + (
            (repformer.nlayers - 1) * _layer(repformer, is_last=False)
            + _layer(repformer, is_last=True)
            if repformer.nlayers
            else 0
        ),
        "fitting net": _fitting(model.fitting_net, descriptor),
    }
    return {name: count for name, count in counts.items() if count}


def repinit_width(repinit: Repinit) -> int:
    """Return the width of what repinit, and the three-body block beside it, hand on."""
    width = repinit.neuron[-1] * repinit.axis_neuron
    return width + (repinit.three_body_neuron[-1] if repinit.use_three_body else 0)


def _linear(num_in: int, num_out: int, *, bias: bool = True, timestep: bool = False) -> int:
    """Count a layer; a time step exists only where there is a skip connection."""
    scales = timestep and num_out in (num_in, 2 * num_in)
    return num_in * num_out + num_out * (bias + scales)


def _network(num_in: int, neuron: Sequence[int], *, timestep: bool) -> int:
    return sum(_linear(a, b, timestep=timestep) for a, b in pairwise([num_in, *neuron]))


def _type_embedding(model: Model) -> int:
    descriptor = model.descriptor
    rows = _ELECTRON_CONFIGURATION if descriptor.use_econf_tebd else len(model.type_map)
    return _linear(rows, descriptor.repinit.tebd_dim, bias=descriptor.use_tebd_bias)


def _typed_embedding(repinit: Repinit, neuron: Sequence[int], *, one_side: bool) -> int:
    types = repinit.tebd_dim * (1 if one_side else 2)
    if repinit.tebd_input_mode == "concat":
        return _network(1 + types, neuron, timestep=repinit.resnet_dt)
    both = [_network(width, neuron, timestep=repinit.resnet_dt) for width in (1, types)]
    return sum(both)


def _between(descriptor: Descriptor) -> int:
    width, g1_dim = repinit_width(descriptor.repinit), descriptor.repformer.g1_dim
    count = 0 if width == g1_dim else _linear(width, g1_dim, bias=False)
    if descriptor.add_tebd_to_repinit_out:
        count += _linear(descriptor.repinit.tebd_dim, g1_dim, bias=False)
    return count


def _layer(r: Repformer, *, is_last: bool) -> int:
    """Count a repformer layer; the last one leaves pairs as they are."""
    atoms, pairs = r.g1_dim, r.g2_dim
    joined = 0 if r.g1_out_mlp else atoms
    joined += r.axis_neuron * pairs if r.update_g1_has_grrg else 0
    joined += r.axis_neuron * atoms if r.update_g1_has_drrd else 0
    joined += pairs if r.update_g1_has_conv and not r.g1_out_conv else 0
    count = _linear(joined, atoms)
    count += _linear(atoms, atoms) if r.g1_out_mlp else 0
    count += _linear(pairs, atoms, bias=False) if r.update_g1_has_conv else 0
    if r.update_g1_has_attn:
        hidden, heads = r.attn1_hidden, r.attn1_nhead
        count += _linear(atoms, hidden * heads, bias=False)
        count += _linear(atoms, (hidden + atoms) * heads, bias=False)
        count += _linear(atoms * heads, atoms)
    if not is_last:
        count += _linear(pairs, pairs)
        count += _linear(atoms, pairs, bias=False) if r.update_g2_has_g1g1 else 0
        count += _pair_attention(r)
    return count + (_residuals(r, is_last=is_last) if r.update_style == "res_residual" else 0)


def _pair_attention(r: Repformer) -> int:
    if not (r.update_g2_has_attn or r.update_h2):
        return 0
    pairs, heads = r.g2_dim, r.attn2_nhead
    count = _linear(pairs, 2 * r.attn2_hidden * heads, bias=False)
    if r.update_g2_has_attn:
        count += _linear(pairs, pairs * heads, bias=False) + _linear(heads * pairs, pairs)
        count += 2 * pairs  # the layer normalisation
    return count + (_linear(heads, 1, bias=False) if r.update_h2 else 0)


def _residuals(r: Repformer, *, is_last: bool) -> int:
    of_atoms = 1 + r.g1_out_mlp + (r.update_g1_has_conv and r.g1_out_conv) + r.update_g1_has_attn
    of_pairs = 0 if is_last else 1 + r.update_g2_has_g1g1 + r.update_g2_has_attn
    return r.g1_dim * of_atoms + r.g2_dim * of_pairs + (r.update_h2 and not is_last)


def _fitting(fitting: EnergyFitting, descriptor: Descriptor) -> int:
    width = descriptor.repformer.g1_dim + fitting.numb_fparam + fitting.dim_case_embd
    width += descriptor.repinit.tebd_dim if descriptor.concat_output_tebd else 0
    width += 0 if fitting.use_aparam_as_mask else fitting.numb_aparam
    neuron = fitting.neuron
    hidden = _network(width, neuron, timestep=fitting.resnet_dt)
    return hidden + _linear(neuron[-1] if neuron else width, 1)
