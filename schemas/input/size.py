"""The size of a model: its parameters, what branches share of them, and memory of a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from schemas.input.descriptor import Descriptor, Repformer, Repinit
from schemas.input.model import EnergyFitting, Model
from schemas.input.root import Link
from schemas.input.section import canonical_precision

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


_FITTING = "fitting net"
_TYPES = "type embedding"


@dataclass(frozen=True, slots=True)
class Shared:
    """A part of the network that several branches use.

    Args:
        name: Key in `shared_dict`.
        component: `descriptor` or `fitting_net`.
        owner: The branch whose tensors all use.
        branches: The others, with the level at which they share.
        parts: What is shared with each of them.
        parameters: Parameters that each of them does not have of its own.
    """

    name: str
    component: str
    owner: str
    branches: dict[str, int]
    parts: dict[str, list[str]]
    parameters: dict[str, int]


def shared_parts(links: list[Link], models: dict[str, Model]) -> list[Shared]:
    """Return what is shared, by name in `shared_dict`."""
    groups: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        groups.setdefault((link.name, link.component), []).append(link)
    found = []
    for (name, component), members in groups.items():
        others = {item.branch: item.level for item in members if item.branch != item.owner}
        counts = {
            item.branch: _shared_counts(item, models[item.branch])
            for item in members
            if item.branch != item.owner
        }
        found.append(
            Shared(
                name,
                component,
                members[0].owner,
                others,
                {branch: list(parts) for branch, parts in counts.items()},
                {branch: sum(parts.values()) for branch, parts in counts.items()},
            )
        )
    return found


def distinct_parameters(links: list[Link], models: dict[str, Model]) -> int:
    """Return the number of parameters of all branches, shared ones counted once."""
    total = sum(sum(parameter_counts(model).values()) for model in models.values())
    shared = shared_parts(links, models)
    return total - sum(sum(item.parameters.values()) for item in shared)


def _shared_counts(link: Link, model: Model) -> dict[str, int]:
    counts = parameter_counts(model)
    if link.component == "fitting_net":
        return {_FITTING: counts[_FITTING]}
    if link.level > 0:
        return {_TYPES: counts[_TYPES]}
    return {name: count for name, count in counts.items() if name != _FITTING}


_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_COPIES = 4
"""Weights, gradients and both moments of Adam."""
_RUNTIME = 310 * 2**20
"""PyTorch itself, before anything is computed."""

# Live tensors per channel of a pair (repinit), of a triple (three-body), of an atom (fitting net).
_REPINIT = 7.1
_THREE_BODY = 6.0
_MEMORY_ESTIMATE_FITTING = 10.0
# Idem, of a pair in a repformer layer.
_ATOM_CHANNELS = 5.0
_PAIR_CHANNELS = 18.0
# Per pair of neighbours and head (or axis) of the attention.
_PAIR_ATTENTION = 18.0


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Neighbours of an atom within the three cutoffs."""

    repinit: float
    three_body: float
    repformer: float


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of a training step in bytes.

    Args:
        activations: What a step keeps until its end.
        parameters: Weights, gradients, moments of the optimiser.
        runtime: PyTorch itself.
    """

    activations: int
    parameters: int
    runtime: int = _RUNTIME

    @property
    def total(self) -> int:
        """All of it."""
        return self.activations + self.parameters + self.runtime


def memory_estimate(
    model: Model, num_parameters: int, num_atoms: int, neighbors: Neighbors
) -> MemoryEstimate:
    """Return the memory of a training step.

    Args:
        model: The model.
        num_parameters: All parameters that are trained together.
        num_atoms: Atoms of the largest batch.
        neighbors: Of an atom, in the mean.
    """
    size = _BYTES[canonical_precision(model.descriptor.precision)]
    numbers = _of_descriptor(model, neighbors) + _MEMORY_ESTIMATE_FITTING * sum(
        model.fitting_net.neuron
    )
    return MemoryEstimate(
        activations=round(num_atoms * numbers * size), parameters=_COPIES * num_parameters * size
    )


def _of_descriptor(model: Model, neighbors: Neighbors) -> float:
    """Return the live numbers of one atom."""
    repinit, layers = model.descriptor.repinit, model.descriptor.repformer
    found = _REPINIT * neighbors.repinit * sum(repinit.neuron)
    if repinit.use_three_body:
        found += _THREE_BODY * neighbors.three_body**2 * sum(repinit.three_body_neuron)
    pair = _ATOM_CHANNELS * layers.g1_dim + _PAIR_CHANNELS * layers.g2_dim
    heads = layers.attn2_nhead if layers.update_g2_has_attn or layers.update_h2 else 0
    attention = _PAIR_ATTENTION * neighbors.repformer**2 * heads
    found += layers.nlayers * neighbors.repformer * pair
    return found + max(0, layers.nlayers - 1) * attention
