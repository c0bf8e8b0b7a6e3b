"""The list of the network's weights under deepmd-kit's names and in its shapes.

docs/deepmd-format.md, 4.2, 4.4.

deepmd-kit's spellings (`g1_shape_tranform` among them) are part of its file format and appear only
here.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpa2.model.attention import LocalAttention, PairAttention
from dpa2.model.energy import EnergyModel
from dpa2.model.environment import EnvironmentStatistics
from dpa2.model.layers import EmbeddingNetwork, Linear
from dpa2.model.repformer import RepformerLayer
from dpa2.model.repinit import TypedEmbedding
from schemas.base.errors import CheckpointError

ATOMIC = "atomic_model."
DESCRIPTOR = "atomic_model.descriptor."
FITTING = "atomic_model.fitting_net."


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of deepmd-kit's state dict.

    Attributes:
        name: Its key, without the `model.<branch>.` prefix.
        tensor: Ours, as stored in the model; None: an empty placeholder of deepmd-kit's.
        shape: Shape in the file; ours is reshaped or repeated over neighbour slots to it.
        is_parameter: Whether it has a place in the optimiser's list of parameters.
        twin: A second key under which the same storage appears.
        block: The part of the descriptor this tensor belongs to, for statistics and placeholders.
    """

    name: str
    tensor: Tensor | None
    shape: tuple[int, ...]
    is_parameter: bool = False
    twin: str | None = None
    block: EnvironmentStatistics | None = None

    @property
    def identity(self) -> tuple[int, str]:
        """The same for entries of several branches that are one object."""
        if self.tensor is not None:
            return id(self.tensor), ""
        return id(self.block), self.name.rpartition(".compress_")[2]


def to_deepmd_state(
    model: EnergyModel, known: dict[int, Tensor] | None = None
) -> "OrderedDict[str, Tensor]":
    """Return deepmd-kit's state dict of one branch on the CPU (views of ours where possible).

    Twins (`_networks`) share storage, as in deepmd-kit's own files.

    Args:
        model: The branch.
        known: What earlier calls have returned, by identity of our tensor; branches that share
            parts then share storage in the file.
    """
    known = {} if known is None else known
    state: OrderedDict[str, Tensor] = OrderedDict()
    twins: dict[str, Tensor] = {}
    for entry in entries(model):
        # deepmd-kit lists a network twice in a row: all of `networks`, then all of `_networks`
        if twins and (
            entry.twin is None or _network_of(entry.twin) != _network_of(next(iter(twins)))
        ):
            state.update(twins)
            twins = {}
        if entry.tensor is None:
            state[entry.name] = torch.zeros(0, dtype=model.descriptor.dtype)
            continue
        number = id(entry.tensor)
        if number not in known:
            known[number] = _to_shape(entry.tensor.detach(), entry.shape).cpu()
        state[entry.name] = known[number]
        if entry.twin is not None:
            twins[entry.twin] = state[entry.name]
    state.update(twins)
    return state


def load_deepmd_state(model: EnergyModel, state: Mapping[str, Tensor]) -> None:
    """Copy deepmd-kit's tensors of one branch into `model`; every tensor must be there.

    Args:
        model: Built from the same `model_params`.
        state: Keys without the `model.<branch>.` prefix. Extra keys are an error too, except empty
            placeholders.

    Raises:
        CheckpointError: If a tensor is missing, surplus, of another shape, or compressed.
    """
    expected = list(entries(model))
    known = {e.name for e in expected} | {e.twin for e in expected if e.twin}
    surplus = [k for k, v in state.items() if k not in known and v.numel() > 0]
    if any("compress_" in k or k.endswith("type_embd_data") for k in surplus):
        raise CheckpointError(
            "this model is compressed (its embedding nets are tables)",
            hint="use the uncompressed checkpoint it was made from",
        )
    if surplus:
        raise CheckpointError(f"the file has a tensor that this model does not: {surplus[0]}")
    with torch.no_grad():
        for entry in expected:
            if entry.tensor is None:
                _refuse_compressed(state, entry.name)
                continue
            if entry.name not in state:
                raise CheckpointError(
                    f"the file lacks a tensor of this model: {entry.name}",
                    hint="its model section and its weights do not belong together",
                )
            value = state[entry.name]
            if tuple(value.shape) != entry.shape:
                raise CheckpointError(
                    f"{entry.name} has shape {tuple(value.shape)} in the file and "
                    f"{entry.shape} in the model",
                    hint="its model section and its weights do not belong together",
                )
            if entry.block is None:
                entry.tensor.copy_(value.reshape(entry.tensor.shape))
    for name, block in model.descriptor.blocks().items():
        prefix = f"{DESCRIPTOR}{name}."
        block.set_values(state[prefix + "mean"], state[prefix + "stddev"])
    model.statistics_changed()


def deepmd_parameters(*models: EnergyModel) -> list[tuple[int, str, nn.Parameter | None]]:
    """Return the parameters in the order in which deepmd-kit's optimiser numbers them.

    What several models share is listed once, with the first of them.

    Returns:
        The number of the model, the name in it, and the parameter: None stands for deepmd-kit's
        zero-length parameters, which take a place in the order and never have a state.
    """
    listed: dict[tuple[int, str], tuple[int, str, nn.Parameter | None]] = {}
    for number, model in enumerate(models):
        for entry in entries(model):
            if entry.is_parameter:
                tensor = entry.tensor
                assert tensor is None or isinstance(tensor, nn.Parameter)
                listed.setdefault(entry.identity, (number, entry.name, tensor))
    return list(listed.values())


def entries(model: EnergyModel) -> Iterator[Entry]:
    """Yield every tensor of deepmd-kit's state dict of `model`, in its order."""
    num_types = len(model.type_map)
    yield Entry("min_nbor_dist", model.min_nbor_dist, ())
    yield Entry(ATOMIC + "out_bias", model.out_bias, (1, num_types, 1))
    yield Entry(ATOMIC + "out_std", model.out_std, (1, num_types, 1))
    descriptor = model.descriptor
    yield from _embedding_block(
        DESCRIPTOR + "repinit.", descriptor.repinit.statistics, descriptor.repinit.embedding
    )
    if descriptor.three_body is not None:
        yield from _embedding_block(
            DESCRIPTOR + "repinit_three_body.",
            descriptor.three_body.statistics,
            descriptor.three_body.embedding,
        )
    repformer = descriptor.repformer
    yield from _statistics(DESCRIPTOR + "repformers.", repformer.statistics)
    yield from _linear(DESCRIPTOR + "repformers.g2_embd.", repformer.pair_embedding)
    for index, layer in enumerate(repformer.layers):
        assert isinstance(layer, RepformerLayer)
        yield from _repformer_layer(f"{DESCRIPTOR}repformers.layers.{index}.", layer)
    yield from _linear(
        DESCRIPTOR + "type_embedding.embedding.embedding_net.layers.0.",
        descriptor.type_embedding.linear,
    )
    if descriptor.shape_map is not None:
        yield from _linear(DESCRIPTOR + "g1_shape_tranform.", descriptor.shape_map)
    if descriptor.type_map is not None:
        yield from _linear(DESCRIPTOR + "tebd_transform.", descriptor.type_map)
    yield from _fitting(model)


def _embedding_block(
    prefix: str, statistics: EnvironmentStatistics, embedding: TypedEmbedding
) -> Iterator[Entry]:
    yield from _statistics(prefix, statistics)
    yield Entry(prefix + "type_embd_data", None, (0,))
    yield from _network(prefix + "filter_layers.", embedding.network)
    if embedding.type_network is not None:
        yield from _network(prefix + "filter_layers_strip.", embedding.type_network)
    for name in ("compress_info.0", "compress_data.0"):
        yield Entry(prefix + name, None, (0,), is_parameter=True, block=statistics)


def _statistics(prefix: str, statistics: EnvironmentStatistics) -> Iterator[Entry]:
    shape = (statistics.mean.shape[0], statistics.nsel, 4)
    yield Entry(prefix + "mean", statistics.mean, shape, block=statistics)
    yield Entry(prefix + "stddev", statistics.stddev, shape, block=statistics)


def _network(prefix: str, network: EmbeddingNetwork) -> Iterator[Entry]:
    for index, layer in enumerate([network.first, *network.rest]):
        assert isinstance(layer, Linear)
        tail = f".0.layers.{index}."
        yield from _linear(f"{prefix}networks{tail}", layer, twin=f"{prefix}_networks{tail}")


def _linear(prefix: str, layer: Linear, twin: str | None = None) -> Iterator[Entry]:
    named = (("matrix", layer.weight), ("bias", layer.bias), ("idt", layer.timestep))
    for name, tensor in named:
        if tensor is not None:
            yield Entry(
                prefix + name,
                tensor,
                tuple(tensor.shape),
                is_parameter=True,
                twin=None if twin is None else twin + name,
            )


def _repformer_layer(prefix: str, layer: RepformerLayer) -> Iterator[Entry]:
    named = (
        ("linear1.", layer.linear1),
        ("linear2.", layer.linear2),
        ("g1_self_mlp.", layer.self_mlp),
        ("proj_g1g2.", layer.conv_map),
        ("proj_g1g1g2.", layer.atom_pair_map),
    )
    for name, linear in named:
        if linear is not None:
            yield from _linear(prefix + name, linear)
    if layer.pair_attention is not None:
        yield from _pair_attention(prefix, layer.pair_attention)
    if layer.local_attention is not None:
        yield from _local_attention(prefix + "loc_attn.", layer.local_attention)
    residuals = (
        ("g1_residual", layer.g1_residual),
        ("g2_residual", layer.g2_residual),
        ("h2_residual", layer.h2_residual),
    )
    for name, residual in residuals:
        for index, scale in enumerate(residual.scales):
            yield Entry(f"{prefix}{name}.{index}", scale, tuple(scale.shape), is_parameter=True)


def _pair_attention(prefix: str, attention: PairAttention) -> Iterator[Entry]:
    yield from _linear(prefix + "attn2g_map.mapqk.", attention.query_key)
    if attention.value is not None:
        yield from _linear(prefix + "attn2_mh_apply.mapv.", attention.value)
    if attention.head_map is not None:
        yield from _linear(prefix + "attn2_mh_apply.head_map.", attention.head_map)
    if attention.norm is not None:
        norm = attention.norm
        shape = tuple(norm.weight.shape)
        yield Entry(prefix + "attn2_lm.matrix", norm.weight, shape, is_parameter=True)
        yield Entry(prefix + "attn2_lm.bias", norm.bias, shape, is_parameter=True)
    if attention.vector_map is not None:
        yield from _linear(prefix + "attn2_ev_apply.head_map.", attention.vector_map)


def _local_attention(prefix: str, attention: LocalAttention) -> Iterator[Entry]:
    yield from _linear(prefix + "mapq.", attention.query)
    yield from _linear(prefix + "mapkv.", attention.key_value)
    yield from _linear(prefix + "head_map.", attention.head_map)


def _fitting(model: EnergyModel) -> Iterator[Entry]:
    fitting = model.fitting
    yield Entry(FITTING + "bias_atom_e", fitting.bias_atom_e, tuple(fitting.bias_atom_e.shape))
    for name in (
        "fparam_avg",
        "fparam_inv_std",
        "aparam_avg",
        "aparam_inv_std",
        "case_embd",
        "default_fparam_tensor",
    ):
        buffer = getattr(fitting, name)
        if buffer.numel() > 0:
            yield Entry(FITTING + name, buffer, tuple(buffer.shape))
    layers = [*fitting.hidden_layers, fitting.output]
    for index, layer in enumerate(layers):
        assert isinstance(layer, Linear)
        tail = f".0.layers.{index}."
        prefix = FITTING + "filter_layers."
        yield from _linear(f"{prefix}networks{tail}", layer, twin=f"{prefix}_networks{tail}")


def _network_of(twin: str) -> str:
    return twin.partition("._networks.")[0]


def _to_shape(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensor.shape) == shape:
        return tensor
    if tensor.ndim == 3:  # statistics: one row per type -> one per type and slot
        return tensor.expand(shape).contiguous()
    return tensor.reshape(shape)


def _refuse_compressed(state: Mapping[str, Tensor], name: str) -> None:
    if name in state and state[name].numel() > 0:
        raise CheckpointError(
            "this model is compressed (its embedding nets are tables)",
            hint="use the uncompressed checkpoint it was made from",
        )
