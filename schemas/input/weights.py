"""The weights of a DPA-2 energy model: the one list from which every other is derived.

A weight has the name and shape of deepmd-kit's files (docs/deepmd-format.md, 4.2) and the place
where our network holds it. Checkpoints, the portable dictionary, the JAX network and the number of
parameters all read this list. deepmd-kit's spellings (`g1_shape_tranform` among them) are part of
its file format.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from schemas.input.descriptor import Repformer, Repinit
from schemas.input.model import Model
from schemas.input.root import Link
from schemas.input.section import canonical_precision

ATOMIC = "atomic_model."
DESCRIPTOR = ATOMIC + "descriptor."
LAYERS = DESCRIPTOR + "repformers.layers."
FITTING = ATOMIC + "fitting_net."
PARTS = {
    "type embedding": (DESCRIPTOR + "type_embedding.",),
    "repinit": (DESCRIPTOR + "repinit.",),
    "three-body block": (DESCRIPTOR + "repinit_three_body.",),
    "repinit to repformer": (DESCRIPTOR + "g1_shape_tranform.", DESCRIPTOR + "tebd_transform."),
    "repformer": (DESCRIPTOR + "repformers.",),
    "fitting net": (FITTING,),
}
"""How the names of each part's weights begin."""

_ELECTRON_CONFIGURATION = 118
"""Numbers that describe an element where `use_econf_tebd` is on."""
_UNKNOWN = -1
"""A neighbour capacity before `auto` was resolved."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of deepmd-kit's state dictionary.

    Attributes:
        name: Its key, without the `model.<branch>.` prefix.
        place: Where our network holds it: attributes, joined by dots. Of a placeholder without
            numbers it is the module that it belongs to.
        shape: In the file; statistics are repeated over neighbour slots there.
        is_parameter: Whether it has a place in the optimiser's list of parameters.
        is_twin: Whether it is a second key of a tensor that was listed before.
    """

    name: str
    place: str
    shape: tuple[int, ...]
    is_parameter: bool = True
    is_twin: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it is a placeholder of deepmd-kit's without numbers."""
        return 0 in self.shape

    @property
    def is_statistic(self) -> bool:
        """Whether it is the mean or spread of an environment matrix."""
        return ".statistics." in self.place


def weights(model: Model, layers: Iterable[int] | None = None) -> Iterator[Weight]:
    """Yield every tensor of deepmd-kit's state dictionary of a model, in its order.

    Args:
        model: The model.
        layers: Only these layers of the repformer; None: all.
    """
    d, num_types = model.descriptor, len(model.type_map)
    yield _buffer("min_nbor_dist", "min_nbor_dist", ())
    yield _buffer(ATOMIC + "out_bias", "out_bias", (1, num_types, 1))
    yield _buffer(ATOMIC + "out_std", "out_std", (1, num_types, 1))
    r, g1_dim = d.repinit, d.repformer.g1_dim
    yield from _embedding_block("repinit", num_types, r, r.nsel, r.neuron, r.type_one_side)
    if r.use_three_body:
        yield from _embedding_block(
            "repinit_three_body", num_types, r, r.three_body_sel, r.three_body_neuron, False
        )
    every = range(d.repformer.nlayers)
    yield from _repformer(num_types, d.repformer, every if layers is None else layers)
    yield from _linear(
        DESCRIPTOR + "type_embedding.embedding.embedding_net.layers.0",
        "descriptor.type_embedding.linear",
        _ELECTRON_CONFIGURATION if d.use_econf_tebd else num_types,
        r.tebd_dim,
        bias=d.use_tebd_bias,
    )
    if repinit_width(r) != g1_dim:
        names = DESCRIPTOR + "g1_shape_tranform", "descriptor.shape_map"
        yield from _linear(*names, repinit_width(r), g1_dim, bias=False)
    if d.add_tebd_to_repinit_out:
        names = DESCRIPTOR + "tebd_transform", "descriptor.type_map"
        yield from _linear(*names, r.tebd_dim, g1_dim, bias=False)
    yield from _fitting(model)


def parameter_counts(model: Model) -> dict[str, int]:
    """Return the number of parameters of each part; parts that a model lacks are left out.

    They are counted as deepmd-kit has them; statistics and energy biases are no parameters.
    """
    counts = dict.fromkeys(PARTS, 0)
    last = model.descriptor.repformer.nlayers - 1
    # All layers but the last are alike; an input may ask for a million of them.
    for weight in weights(model, sorted({0, last}) if last >= 0 else ()):
        times = last if last > 0 and weight.name.startswith(f"{LAYERS}0.") else 1
        for part, beginnings in PARTS.items():
            if weight.is_parameter and weight.name.startswith(beginnings):
                counts[part] += times * math.prod(weight.shape)
    return {part: count for part, count in counts.items() if count}


def repinit_width(repinit: Repinit) -> int:
    """Return the width of what repinit, and the three-body block beside it, hand on."""
    width = repinit.neuron[-1] * repinit.axis_neuron
    return width + (repinit.three_body_neuron[-1] if repinit.use_three_body else 0)


def _buffer(name: str, place: str, shape: tuple[int, ...]) -> Weight:
    return Weight(name, place, shape, is_parameter=False)


def _linear(
    name: str, place: str, num_in: int, num_out: int, *, bias: bool = True, timestep: bool = False
) -> Iterator[Weight]:
    """Yield the tensors of a layer; a time step exists only where there is a skip connection."""
    yield Weight(f"{name}.matrix", f"{place}.weight", (num_in, num_out))
    if bias:
        yield Weight(f"{name}.bias", f"{place}.bias", (num_out,))
    if timestep and num_out in (num_in, 2 * num_in):
        yield Weight(f"{name}.idt", f"{place}.timestep", (num_out,))


def _network(
    name: str, places: Sequence[str], widths: Sequence[int], timesteps: Sequence[bool]
) -> Iterator[Weight]:
    """Yield the tensors of a stack of layers, which deepmd-kit lists twice in a row."""
    layers = zip(places, pairwise(widths), timesteps, strict=True)
    found = [
        weight
        for index, (place, (num_in, num_out), timestep) in enumerate(layers)
        for weight in _linear(
            f"{name}.networks.0.layers.{index}", place, num_in, num_out, timestep=timestep
        )
    ]
    yield from found
    for weight in found:
        twin = weight.name.replace(".networks.", "._networks.")
        yield replace(weight, name=twin, is_parameter=False, is_twin=True)


def _statistics(block: str, place: str, num_types: int, nsel: int | str) -> Iterator[Weight]:
    shape = (num_types, nsel if isinstance(nsel, int) else _UNKNOWN, 4)
    for name in ("mean", "stddev"):
        yield _buffer(f"{DESCRIPTOR}{block}.{name}", f"{place}.statistics.{name}", shape)


def _embedding_block(
    block: str, num_types: int, r: Repinit, nsel: int | str, neuron: list[int], one_side: bool
) -> Iterator[Weight]:
    name = DESCRIPTOR + block
    place = "descriptor." + {"repinit": "repinit", "repinit_three_body": "three_body"}[block]
    yield from _statistics(block, place, num_types, nsel)
    yield _buffer(f"{name}.type_embd_data", f"{place}.statistics", (0,))
    types = r.tebd_dim * (1 if one_side else 2)
    strip = r.tebd_input_mode == "strip"
    networks = [("filter_layers", "network", 1 if strip else 1 + types)]
    if strip:
        networks.append(("filter_layers_strip", "type_network", types))
    for theirs, ours, num_in in networks:
        within = f"{place}.embedding.{ours}."
        places = [within + "first", *(f"{within}rest.{k}" for k in range(len(neuron) - 1))]
        timesteps = [r.resnet_dt] * len(neuron)
        yield from _network(f"{name}.{theirs}", places, [num_in, *neuron], timesteps)
    for empty in ("compress_info.0", "compress_data.0"):
        yield Weight(f"{name}.{empty}", f"{place}.statistics", (0,))


def _repformer(num_types: int, r: Repformer, layers: Iterable[int]) -> Iterator[Weight]:
    yield from _statistics("repformers", "descriptor.repformer", num_types, r.nsel)
    yield from _linear(
        DESCRIPTOR + "repformers.g2_embd", "descriptor.repformer.pair_embedding", 1, r.g2_dim
    )
    for index in layers:
        for weight in _repformer_layer(r, is_last=index == r.nlayers - 1):
            yield replace(
                weight,
                name=f"{LAYERS}{index}.{weight.name}",
                place=f"descriptor.repformer.layers.{index}.{weight.place}",
            )


def _repformer_layer(r: Repformer, *, is_last: bool) -> Iterator[Weight]:
    """Yield the tensors of a layer, named from it on; the last one leaves pairs as they are."""
    atoms, pairs = r.g1_dim, r.g2_dim
    joined = 0 if r.g1_out_mlp else atoms
    joined += r.axis_neuron * pairs if r.update_g1_has_grrg else 0
    joined += r.axis_neuron * atoms if r.update_g1_has_drrd else 0
    joined += pairs if r.update_g1_has_conv and not r.g1_out_conv else 0
    heads, width = r.attn1_nhead, r.attn1_hidden
    pair_heads, pair_width = r.attn2_nhead, r.attn2_hidden
    products = r.update_g2_has_g1g1 and not is_last
    attends = r.update_g2_has_attn and not is_last
    turns = r.update_h2 and not is_last
    local = r.update_g1_has_attn
    convolved = (pairs, atoms) if r.g1_out_conv else (atoms, pairs)
    own, pair, around = "", "pair_attention.", "local_attention."
    for exists, theirs, place, num_in, num_out, bias in (
        (True, "linear1", own + "linear1", joined, atoms, True),
        (not is_last, "linear2", own + "linear2", pairs, pairs, True),
        (r.g1_out_mlp, "g1_self_mlp", own + "self_mlp", atoms, atoms, True),
        (r.update_g1_has_conv, "proj_g1g2", own + "conv_map", *convolved, False),
        (products, "proj_g1g1g2", own + "atom_pair_map", atoms, pairs, False),
        (
            attends or turns,
            "attn2g_map.mapqk",
            pair + "query_key",
            pairs,
            2 * pair_width * pair_heads,
            False,
        ),
        (attends, "attn2_mh_apply.mapv", pair + "value", pairs, pairs * pair_heads, False),
        (attends, "attn2_mh_apply.head_map", pair + "head_map", pair_heads * pairs, pairs, True),
        (attends, "attn2_lm", pair + "norm", None, pairs, True),
        (turns, "attn2_ev_apply.head_map", pair + "vector_map", pair_heads, 1, False),
        (local, "loc_attn.mapq", around + "query", atoms, width * heads, False),
        (local, "loc_attn.mapkv", around + "key_value", atoms, (width + atoms) * heads, False),
        (local, "loc_attn.head_map", around + "head_map", atoms * heads, atoms, True),
    ):
        if exists and num_in is None:  # a layer normalisation
            yield Weight(f"{theirs}.matrix", f"{place}.weight", (num_out,))
            yield Weight(f"{theirs}.bias", f"{place}.bias", (num_out,))
        elif exists and num_in is not None:
            yield from _linear(theirs, place, num_in, num_out, bias=bias)
    if r.update_style == "res_residual":
        of_atoms = 1 + r.g1_out_mlp + (r.update_g1_has_conv and r.g1_out_conv) + local
        of_pairs = 0 if is_last else 1 + r.update_g2_has_g1g1 + r.update_g2_has_attn
        for residual, count, length in (
            ("g1_residual", of_atoms, atoms),
            ("g2_residual", of_pairs, pairs),
            ("h2_residual", int(turns), 1),
        ):
            for index in range(count):
                yield Weight(f"{residual}.{index}", f"{residual}.scales.{index}", (length,))


def _fitting(model: Model) -> Iterator[Weight]:
    f, d, num_types = model.fitting_net, model.descriptor, len(model.type_map)
    default = f.numb_fparam if f.default_fparam is not None else 0
    for name, shape in (
        ("bias_atom_e", (num_types, 1)),
        ("fparam_avg", (f.numb_fparam,)),
        ("fparam_inv_std", (f.numb_fparam,)),
        ("aparam_avg", (f.numb_aparam,)),
        ("aparam_inv_std", (f.numb_aparam,)),
        ("case_embd", (f.dim_case_embd,)),
        ("default_fparam_tensor", (default,)),
    ):
        if 0 not in shape:
            yield _buffer(FITTING + name, f"fitting.{name}", shape)
    width = d.repformer.g1_dim + f.numb_fparam + f.dim_case_embd
    width += d.repinit.tebd_dim if d.concat_output_tebd else 0
    width += 0 if f.use_aparam_as_mask else f.numb_aparam
    depth = len(f.neuron)
    places = [*(f"fitting.hidden_layers.{k}" for k in range(depth)), "fitting.output"]
    timesteps = [*[f.resnet_dt] * depth, False]
    yield from _network(FITTING + "filter_layers", places, [width, *f.neuron, 1], timesteps)


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
    found: dict[tuple[str, str], Shared] = {}
    for link in links:
        shared = found.setdefault(
            (link.name, link.component), Shared(link.name, link.component, link.owner, {}, {}, {})
        )
        if link.branch != link.owner:
            counts = _shared_counts(link, models[link.branch])
            shared.branches[link.branch] = link.level
            shared.parts[link.branch] = list(counts)
            shared.parameters[link.branch] = sum(counts.values())
    return list(found.values())


def distinct_parameters(links: list[Link], models: dict[str, Model]) -> int:
    """Return the number of parameters of all branches, shared ones counted once."""
    total = sum(sum(parameter_counts(model).values()) for model in models.values())
    shared = shared_parts(links, models)
    return total - sum(sum(item.parameters.values()) for item in shared)


def _shared_counts(link: Link, model: Model) -> dict[str, int]:
    counts = parameter_counts(model)
    if link.component == "descriptor" and link.level == 0:
        return {name: count for name, count in counts.items() if name != "fitting net"}
    part = "fitting net" if link.component == "fitting_net" else "type embedding"
    return {part: counts[part]}


_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_COPIES = 4
"""Weights, gradients and both moments of Adam."""
_RUNTIME = 310 * 2**20
"""PyTorch itself, before anything is computed."""

# Live tensors per channel of a pair (repinit), of a triple (three-body), of an atom (fitting net).
_PER_PAIR, _PER_TRIPLE, _PER_ATOM = 7.1, 6.0, 10.0
# Live tensors per channel of a pair in a repformer layer.
_ATOM_CHANNELS, _PAIR_CHANNELS = 5.0, 18.0
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
    repinit, layers = model.descriptor.repinit, model.descriptor.repformer
    numbers = _PER_ATOM * sum(model.fitting_net.neuron)
    numbers += _PER_PAIR * neighbors.repinit * sum(repinit.neuron)
    if repinit.use_three_body:
        numbers += _PER_TRIPLE * neighbors.three_body**2 * sum(repinit.three_body_neuron)
    pair = _ATOM_CHANNELS * layers.g1_dim + _PAIR_CHANNELS * layers.g2_dim
    numbers += layers.nlayers * neighbors.repformer * pair
    heads = layers.attn2_nhead if layers.update_g2_has_attn or layers.update_h2 else 0
    attention = _PAIR_ATTENTION * neighbors.repformer**2 * heads
    numbers += max(0, layers.nlayers - 1) * attention
    size = _BYTES[canonical_precision(model.descriptor.precision)]
    return MemoryEstimate(round(num_atoms * numbers * size), _COPIES * num_parameters * size)
