"""The weights of a model as a tree of arrays, which the functions of this package compute with."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.formats.weights import to_deepmd_state
from dpa2.model.energy import EnergyModel
from schemas.base.errors import ConversionError

# Axes:  T types   S neighbour slots   R the four columns of the environment matrix   C channels


# Numpy's while they are read, jax's while they compute.
Array = jax.Array
Tensors = Mapping[str, Any]


class Linear(NamedTuple):
    """y = x weight + bias; `weight` is (in, out), `timestep` scales the activation."""

    weight: Array
    bias: Array | None = None
    timestep: Array | None = None


class EnvironmentStatistics(NamedTuple):
    """Mean and spread of an environment matrix, (T, S, R) each."""

    mean: Array
    stddev: Array


class TypedEmbedding(NamedTuple):
    """G(s, type a, type b); `type_network` exists in strip mode."""

    network: tuple[Linear, ...]
    type_network: tuple[Linear, ...]


class LayerNorm(NamedTuple):
    """Scale and shift, (C,) each."""

    weight: Array
    bias: Array


class PairAttention(NamedTuple):
    """Gated attention among the neighbours of one atom."""

    query_key: Linear
    value: Linear | None
    head_map: Linear | None
    norm: LayerNorm | None
    vector_map: Linear | None


class LocalAttention(NamedTuple):
    """Attention of an atom over its neighbours."""

    query: Linear
    key_value: Linear
    head_map: Linear


class RepformerLayer(NamedTuple):
    """One layer; what its options leave out is None, scales are empty but for `res_residual`."""

    linear1: Linear
    self_mlp: Linear | None
    conv_map: Linear | None
    linear2: Linear | None
    atom_pair_map: Linear | None
    pair_attention: PairAttention | None
    local_attention: LocalAttention | None
    g1_residual: tuple[Array, ...]
    g2_residual: tuple[Array, ...]
    h2_residual: tuple[Array, ...]


class Descriptor(NamedTuple):
    """Everything below the fitting net.

    Attributes:
        type_rows: (T, .) what the type embedding sees: one-hot vectors or electron configurations.
    """

    type_rows: Array
    type_embedding: Linear
    repinit_statistics: EnvironmentStatistics
    repinit: TypedEmbedding
    three_body_statistics: EnvironmentStatistics | None
    three_body: TypedEmbedding | None
    shape_map: Linear | None
    type_map: Linear | None
    repformer_statistics: EnvironmentStatistics
    pair_embedding: Linear
    layers: tuple[RepformerLayer, ...]


class Scaling(NamedTuple):
    """Mean and inverse spread of an input of the fitting net."""

    mean: Array
    inverse_stddev: Array

    def scaled(self, x: Array) -> Array:
        """Return the input as the network sees it."""
        return (x - self.mean) * self.inverse_stddev


class Fitting(NamedTuple):
    """The energy net (its last layer is the output) and the scaling of its other inputs."""

    layers: tuple[Linear, ...]
    bias_atom_e: Array
    fparam: Scaling | None
    aparam: Scaling | None
    case_embd: Array | None


class Weights(NamedTuple):
    """A model's numbers; `energy_bias` (T,) eV is float64 whatever the networks' precision."""

    descriptor: Descriptor
    fitting: Fitting
    energy_bias: Array


def read_weights(tensors: Tensors, type_rows: Any) -> Weights:
    """Sort deepmd-kit's tensors of one branch (docs/deepmd-format.md, 4.2) into a tree.

    Args:
        tensors: Numpy arrays by deepmd-kit's names, without the prefix of the branch.
        type_rows: (T, .) input of the type embedding, which deepmd-kit does not store.
    """
    out_bias = tensors["atomic_model.out_bias"]
    return Weights(
        _descriptor(_below(tensors, "atomic_model.descriptor."), type_rows),
        _fitting(_below(tensors, "atomic_model.fitting_net.")),
        np.asarray(out_bias, dtype=np.float64).reshape(-1),  # type: ignore[arg-type]
    )


def _descriptor(tensors: Tensors, type_rows: Any) -> Descriptor:
    three_body = _below(tensors, "repinit_three_body.")
    repinit = _below(tensors, "repinit.")
    repformer = _below(tensors, "repformers.")
    embedding = _linear(tensors, "type_embedding.embedding.embedding_net.layers.0.")
    pair_embedding = _linear(repformer, "g2_embd.")
    assert embedding is not None
    assert pair_embedding is not None
    return Descriptor(
        type_rows=type_rows,
        type_embedding=embedding,
        repinit_statistics=_statistics(repinit),
        repinit=_typed_embedding(repinit),
        three_body_statistics=_statistics(three_body) if three_body else None,
        three_body=_typed_embedding(three_body) if three_body else None,
        shape_map=_linear(tensors, "g1_shape_tranform."),
        type_map=_linear(tensors, "tebd_transform."),
        repformer_statistics=_statistics(repformer),
        pair_embedding=pair_embedding,
        layers=tuple(_layer(part) for part in _numbered(repformer, "layers.")),
    )


def _layer(tensors: Tensors) -> RepformerLayer:
    linear1 = _linear(tensors, "linear1.")
    assert linear1 is not None
    return RepformerLayer(
        linear1=linear1,
        self_mlp=_linear(tensors, "g1_self_mlp."),
        conv_map=_linear(tensors, "proj_g1g2."),
        linear2=_linear(tensors, "linear2."),
        atom_pair_map=_linear(tensors, "proj_g1g1g2."),
        pair_attention=_pair_attention(tensors),
        local_attention=_local_attention(_below(tensors, "loc_attn.")),
        g1_residual=_scales(tensors, "g1_residual."),
        g2_residual=_scales(tensors, "g2_residual."),
        h2_residual=_scales(tensors, "h2_residual."),
    )


def _pair_attention(tensors: Tensors) -> PairAttention | None:
    query_key = _linear(tensors, "attn2g_map.mapqk.")
    if query_key is None:
        return None
    norm = _below(tensors, "attn2_lm.")
    return PairAttention(
        query_key=query_key,
        value=_linear(tensors, "attn2_mh_apply.mapv."),
        head_map=_linear(tensors, "attn2_mh_apply.head_map."),
        norm=LayerNorm(norm["matrix"], norm["bias"]) if norm else None,
        vector_map=_linear(tensors, "attn2_ev_apply.head_map."),
    )


def _local_attention(tensors: Tensors) -> LocalAttention | None:
    query, key_value, head_map = (
        _linear(tensors, f"{name}.") for name in ("mapq", "mapkv", "head_map")
    )
    if query is None or key_value is None or head_map is None:
        return None
    return LocalAttention(query, key_value, head_map)


def _fitting(tensors: Tensors) -> Fitting:
    return Fitting(
        layers=_network(tensors, "filter_layers."),
        bias_atom_e=tensors["bias_atom_e"],
        fparam=_scaling(tensors, "fparam"),
        aparam=_scaling(tensors, "aparam"),
        case_embd=tensors.get("case_embd"),
    )


def _typed_embedding(tensors: Tensors) -> TypedEmbedding:
    return TypedEmbedding(
        _network(tensors, "filter_layers."), _network(tensors, "filter_layers_strip.")
    )


def _statistics(tensors: Tensors) -> EnvironmentStatistics:
    return EnvironmentStatistics(tensors["mean"], tensors["stddev"])


def _network(tensors: Tensors, prefix: str) -> tuple[Linear, ...]:
    layers = [_linear(part, "") for part in _numbered(tensors, f"{prefix}networks.0.layers.")]
    return tuple(layer for layer in layers if layer is not None)


def _linear(tensors: Tensors, prefix: str) -> Linear | None:
    if f"{prefix}matrix" not in tensors:
        return None
    bias, timestep = (tensors.get(prefix + name) for name in ("bias", "idt"))
    return Linear(tensors[f"{prefix}matrix"], bias, timestep)


def _scaling(tensors: Tensors, prefix: str) -> Scaling | None:
    if f"{prefix}_avg" not in tensors:
        return None
    return Scaling(tensors[f"{prefix}_avg"], tensors[f"{prefix}_inv_std"])


def _scales(tensors: Tensors, prefix: str) -> tuple[Array, ...]:
    found = _below(tensors, prefix)
    return tuple(found[str(index)] for index in range(len(found)))


def _numbered(tensors: Tensors, prefix: str) -> list[dict[str, Any]]:
    """Return the parts `prefix`0., `prefix`1., ... in their order."""
    count = len({name.split(".")[0] for name in _below(tensors, prefix)})
    return [_below(tensors, f"{prefix}{index}.") for index in range(count)]


def _below(tensors: Tensors, prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: x for name, x in tensors.items() if name.startswith(prefix)}


def weights_of(model: EnergyModel) -> Weights:
    """Return the numbers of a model in its own precision.

    Raises:
        ConversionError: If a network computes in half precision, which these formats do not hold.
    """
    tensors = {name: _array(x) for name, x in to_deepmd_state(model).items()}
    return read_weights(tensors, _array(model.descriptor.type_embedding.rows_TC))


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.dtype in (torch.bfloat16, torch.float16):
        raise ConversionError(
            f"the model computes in {str(tensor.dtype).removeprefix('torch.')}, which cannot be "
            "exported to JAX",
            hint="set `precision` to float32 or float64 and train again",
        )
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
