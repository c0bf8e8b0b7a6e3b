"""The repformer: layers in which atoms and pairs update each other.

docs/deepmd-format.md, 3.8.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dpa2.jax.layers import Activation, activation, layer_norm, linear, residual
from dpa2.jax.neighbors import Neighbors, environment_matrix, kept
from dpa2.jax.weights import Array, Part
from dpa2.model.attention import ATTENTION_SHIFT, DEFAULT_LN_EPS
from schemas.input.descriptor import Descriptor as DescriptorConfig
from schemas.input.descriptor import Repformer

# Axes:  N centre atoms   K neighbour slots   H heads   D hidden width   P pair channels (g2_dim)
#        A atom channels (g1_dim)   X = x, y, z


# Stands for minus infinity where a row may have nothing else.
_NEVER = -1e30
# deepmd-kit's guard against atoms without neighbours
_EPSILON = 1e-4


class PairGeometry(NamedTuple):
    """Geometric factors of all layers.

    Attributes:
        weight: (N, K) the switch w (smooth), or 1 in filled slots; 0 in empty ones.
        filled: (N, K) bool.
        norm: (N, 1, 1) kappa of the symmetrisation.
        conv_norm: (N, 1) kappa of the convolution.
        smooth: Whether attention is switched off at the cutoff.
    """

    weight: Array
    filled: Array
    norm: Array
    conv_norm: Array
    smooth: bool


def pair_weights(
    weights: Part,
    options: Repformer,
    g2_NKP: Array,
    h2_NKX: Array,
    geometry: PairGeometry,
) -> Array:
    """Return the gated attention weights (N, H, K, K) among the neighbours of each atom."""
    P, H = g2_NKP.shape[-1], options.attn2_nhead
    # The hidden channels hold every head's query, then every head's key, the head fastest.
    split = weights.query_key.weight.reshape(P, options.attn2_hidden, 2 * H)
    form_PHP = jnp.einsum("pdh,rdh->phr", split[..., :H], split[..., H:])
    q_NHKP = jnp.einsum("nkp,phr->nhkr", g2_NKP, form_PHP)
    logits = jnp.einsum("nhjr,nkr->nhjk", q_NHKP, g2_NKP) / math.sqrt(options.attn2_hidden)
    gate_N1KK = jnp.einsum("njx,nkx->njk", h2_NKX, h2_NKX)[:, None]
    if options.attn2_has_gate:
        logits = logits * gate_N1KK
    w_NK = geometry.weight
    ww_N1KK = (w_NK[:, :, None] * w_NK[:, None, :])[:, None]
    if geometry.smooth:
        logits = (logits + ATTENTION_SHIFT) * ww_N1KK - ATTENTION_SHIFT
    else:
        logits = jnp.where(geometry.filled[:, None, None, :], logits, _NEVER)
    return jax.nn.softmax(logits, axis=-1) * (ww_N1KK * gate_N1KK / math.sqrt(3.0))


def pair_update(weights: Part, options: Repformer, weights_NHKK: Array, g2_NKP: Array) -> Array:
    """Return the normalised update of g2 (N, K, P)."""
    P, H = g2_NKP.shape[-1], options.attn2_nhead
    mixed_NHKP = jnp.einsum("nhjk,nkp->nhjp", weights_NHKK, g2_NKP)
    # (feature, head) is flattened with the head fastest.
    value_PFH = weights.value.weight.reshape(P, P, H)
    out_FHO = weights.head_map.weight.reshape(P, H, P)
    both_HPO = jnp.einsum("pfh,fho->hpo", value_PFH, out_FHO)
    update = jnp.einsum("nhjp,hpo->njo", mixed_NHKP, both_HPO) + weights.head_map.bias
    epsilon = DEFAULT_LN_EPS if options.ln_eps is None else options.ln_eps
    return layer_norm(weights.norm, update, epsilon)


def local_attention(
    weights: Part, num_heads: int, g1_NA: Array, g1_NKA: Array, geometry: PairGeometry
) -> Array:
    """Return the update of g1 (N, A) by attention of each atom over its neighbours."""
    N, A = g1_NA.shape
    H = num_heads
    D = weights.query.weight.shape[1] // H
    key_value = weights.key_value.weight.reshape(A, D + A, H)
    query_NDH = (g1_NA @ weights.query.weight).reshape(N, D, H)
    q_NHA = jnp.einsum("ndh,adh->nha", query_NDH, key_value[:, :D])
    logits_NHK = jnp.einsum("nha,nka->nhk", q_NHA, g1_NKA) / math.sqrt(D)
    w_N1K = geometry.weight[:, None]
    if geometry.smooth:
        logits_NHK = (logits_NHK + ATTENTION_SHIFT) * w_N1K - ATTENTION_SHIFT
    else:
        logits_NHK = jnp.where(geometry.filled[:, None], logits_NHK, _NEVER)
    weights_NHK = jax.nn.softmax(logits_NHK, axis=-1) * w_N1K
    mixed_NHA = jnp.einsum("nhk,nka->nha", weights_NHK, g1_NKA)
    values_NHA = jnp.einsum("nha,abh->nhb", mixed_NHA, key_value[:, D:])
    return linear(weights.head_map, values_NHA.reshape(N, H * A))


def repformer(
    config: DescriptorConfig,
    weights: Part,
    g1_NA: Array,
    types_N: Array,
    neighbors: Neighbors,
    parents_NK: Array,
    keep_TT: NDArray[np.bool_] | None,
) -> Array:
    """Return the atoms' features after all layers (N, A).

    Args:
        config: Options.
        weights: Of the repformer.
        g1_NA: Initial features.
        types_N: Types of the centres.
        neighbors: The repformer's own list.
        parents_NK: Centre of which each neighbour is an image.
        keep_TT: Pairs of types that take part, or None.
    """
    options = config.repformer
    act = activation(options.activation_function)
    env_NKR, w_NK, r_NK = environment_matrix(
        weights.statistics,
        types_N,
        neighbors.disp,
        options.rcut_smth,
        options.rcut,
        config.env_protection,
    )
    radial_NK, h2_NKX = env_NKR[..., 0], env_NKR[..., 1:]
    if options.direct_dist:
        radial_NK, h2_NKX = r_NK / options.rcut, neighbors.disp / options.rcut
    used_NK = neighbors.filled & kept(keep_TT, types_N, neighbors)
    geometry = pair_geometry(w_NK, used_NK, smooth=config.smooth, use_sqrt=options.use_sqrt_nnei)
    g2_NKP = act(linear(weights.pair_embedding, radial_NK[..., None]))
    g1_NA = act(g1_NA)
    layers = weights.get("layers")
    for layer in [] if layers is None else layers.numbered():
        g1_NKA = g1_NA[parents_NK]
        updated_NA = update_atoms(layer, options, act, g1_NA, g1_NKA, g2_NKP, h2_NKX, geometry)
        if layer.get("linear2") is not None:  # the last layer leaves pairs as they are
            g2_NKP, h2_NKX = update_pairs(
                layer, options, act, g1_NA, g1_NKA, g2_NKP, h2_NKX, geometry
            )
        g1_NA = updated_NA
    return g1_NA


def pair_geometry(w_NK: Array, used_NK: Array, *, smooth: bool, use_sqrt: bool) -> PairGeometry:
    """Collect the weights and normalisations that all layers share.

    docs/deepmd-format.md, 3.8, helpers.
    """
    mask_NK = used_NK.astype(w_NK.dtype)
    if smooth:
        nsel = w_NK.shape[1]
        conv_N1 = jnp.full((w_NK.shape[0], 1), 1.0 / nsel, w_NK.dtype)
        norm_N1 = jnp.full_like(conv_N1, nsel**-0.5) if use_sqrt else conv_N1
        return PairGeometry(w_NK * mask_NK, used_NK, norm_N1[..., None], conv_N1, smooth=True)
    count_N1 = mask_NK.sum(axis=1, keepdims=True)
    conv_N1 = 1.0 / (_EPSILON + count_N1)
    norm_N1 = 1.0 / (_EPSILON + jnp.sqrt(count_N1)) if use_sqrt else conv_N1
    return PairGeometry(mask_NK, used_NK, norm_N1[..., None], conv_N1, smooth=False)


def update_atoms(
    layer: Part,
    options: Repformer,
    act: Activation,
    g1_NA: Array,
    g1_NKA: Array,
    g2_NKP: Array,
    h2_NKX: Array,
    geometry: PairGeometry,
) -> Array:
    """Return g1 (N, A) updated from the neighbourhoods."""
    weighted_NKP = g2_NKP * geometry.weight[..., None]
    weighted_NKX = h2_NKX * geometry.weight[..., None]
    updates = [g1_NA]
    parts = []
    if layer.get("self_mlp") is not None:
        updates.append(act(linear(layer.self_mlp, g1_NA)))
    else:
        parts.append(g1_NA)
    if layer.get("conv_map") is not None:
        sums_NPA = jnp.einsum("nkp,nka->npa", weighted_NKP, g1_NKA)
        conv_out = options.g1_out_conv
        terms = "npa,pa->na" if conv_out else "npa,ap->np"
        conv = jnp.einsum(terms, sums_NPA, layer.conv_map.weight) * geometry.conv_norm
        (updates if conv_out else parts).append(conv)
    if options.update_g1_has_grrg:
        h_NXP = jnp.einsum("nkx,nkp->nxp", weighted_NKX, g2_NKP)
        parts.append(symmetrise(h_NXP * geometry.norm, options.axis_neuron))
    if options.update_g1_has_drrd:
        h_NXA = jnp.einsum("nkx,nka->nxa", weighted_NKX, g1_NKA)
        parts.append(symmetrise(h_NXA * geometry.norm, options.axis_neuron))
    updates.append(act(linear(layer.linear1, jnp.concatenate(parts, axis=-1))))
    if layer.get("local_attention") is not None:
        updates.append(
            local_attention(layer.local_attention, options.attn1_nhead, g1_NA, g1_NKA, geometry)
        )
    return residual(layer, "g1", options.update_style, updates)


def update_pairs(
    layer: Part,
    options: Repformer,
    act: Activation,
    g1_NA: Array,
    g1_NKA: Array,
    g2_NKP: Array,
    h2_NKX: Array,
    geometry: PairGeometry,
) -> tuple[Array, Array]:
    """Return the updated g2 (N, K, P) and h2 (N, K, 3)."""
    updates = [g2_NKP, act(linear(layer.linear2, g2_NKP))]
    if layer.get("atom_pair_map") is not None:
        product_NKA = g1_NA[:, None] * g1_NKA * geometry.weight[..., None]
        updates.append(linear(layer.atom_pair_map, product_NKA))
    vectors = [h2_NKX]
    attention = layer.get("pair_attention")
    if attention is not None:
        weights_NHKK = pair_weights(attention, options, g2_NKP, h2_NKX, geometry)
        if attention.get("value") is not None:
            updates.append(pair_update(attention, options, weights_NHKK, g2_NKP))
        if attention.get("vector_map") is not None:
            mixed_NKK = jnp.einsum("nhjk,h->njk", weights_NHKK, attention.vector_map.weight[:, 0])
            vectors.append(jnp.einsum("njk,nkx->njx", mixed_NKK, h2_NKX))
    return (
        residual(layer, "g2", options.update_style, updates),
        residual(layer, "h2", options.update_style, vectors),
    )


def symmetrise(h_NXC: Array, num_axis: int) -> Array:
    """Return the rotation-invariant S = H[:, :B]^T H / 3 (N, B * C)."""
    s_NBC = jnp.einsum("nxb,nxc->nbc", h_NXC[..., :num_axis], h_NXC) / 3.0
    return s_NBC.reshape(s_NBC.shape[0], s_NBC.shape[1] * s_NBC.shape[2])
