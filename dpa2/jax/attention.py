"""The two attentions of the repformer: over pairs of neighbours, and over neighbours.

docs/deepmd-format.md, 3.8.
"""

# Axes:  N centre atoms   K neighbour slots   H heads   D hidden width   P pair channels (g2_dim)
#        A atom channels (g1_dim)   X = x, y, z

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dpa2.jax.layers import bias_of, layer_norm, linear
from dpa2.jax.weights import Array, LocalAttention, PairAttention
from schemas.descriptor import Repformer

# deepmd-kit shifts attention weights by this before the switch and back after it.
ATTENTION_SHIFT = 20.0
DEFAULT_LN_EPS = 1e-5
# Stands for minus infinity where a row may have nothing else.
_NEVER = -1e30


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
    weights: PairAttention,
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


def pair_update(
    weights: PairAttention, options: Repformer, weights_NHKK: Array, g2_NKP: Array
) -> Array:
    """Return the normalised update of g2 (N, K, P)."""
    assert weights.value is not None
    assert weights.head_map is not None
    assert weights.norm is not None
    P, H = g2_NKP.shape[-1], options.attn2_nhead
    mixed_NHKP = jnp.einsum("nhjk,nkp->nhjp", weights_NHKK, g2_NKP)
    # (feature, head) is flattened with the head fastest.
    value_PFH = weights.value.weight.reshape(P, P, H)
    out_FHO = weights.head_map.weight.reshape(P, H, P)
    both_HPO = jnp.einsum("pfh,fho->hpo", value_PFH, out_FHO)
    update = jnp.einsum("nhjp,hpo->njo", mixed_NHKP, both_HPO) + bias_of(weights.head_map)
    epsilon = DEFAULT_LN_EPS if options.ln_eps is None else options.ln_eps
    return layer_norm(weights.norm, update, epsilon)


def local_attention(
    weights: LocalAttention, num_heads: int, g1_NA: Array, g1_NKA: Array, geometry: PairGeometry
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
