"""Repinit, the first view of each atom's surroundings, and its three-body part.

docs/deepmd-format.md, 3.7.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dpa2.jax.layers import Activation, activation, close_hidden, hidden_layers
from dpa2.jax.neighbors import Neighbors, environment_matrix, kept
from dpa2.jax.weights import Array, Part
from schemas.input.descriptor import Descriptor

# Axes:  N centre atoms   K neighbour slots (twice: j, k)   C channels   T types
#        R = the four columns of the environment matrix


def typed_embedding(
    weights: Part,
    act: Activation,
    scalar: Array,
    tebd_TC: Array,
    types: Sequence[Array],
    switch: Array | None,
) -> Array:
    """Return G (..., C) for pairs of atoms.

    concat: one network sees [s, T_a, T_b]. strip: one sees s, a second [T_a, T_b], and the second
    scales the first, G = S + S * tau.

    Args:
        weights: One network or two.
        act: Activation of both.
        scalar: (...) the geometric input s.
        tebd_TC: Type embedding.
        types: Type a, and type b unless one-sided; of shapes that broadcast to `scalar`'s.
        switch: (...) weight of tau in strip mode; None leaves tau as it is.
    """
    type_network = weights.get("type_network")
    if type_network is not None:
        s = hidden_layers(weights.network.stack(), act, scalar[..., None])
        num_types = tebd_TC.shape[0]
        every = [axis.reshape(-1) for axis in jnp.indices((num_types,) * len(types))]
        pairs = jnp.concatenate([tebd_TC[axis] for axis in every], axis=-1)
        table = hidden_layers(type_network.stack(), act, pairs)
        row = types[0] if len(types) == 1 else types[0] * num_types + types[1]
        tau = table[row] if switch is None else table[row] * switch[..., None]
        return s + s * tau
    first, *rest = weights.network.stack()
    # Inputs side by side enter a linear layer as a sum, so types become tables of its terms.
    total = scalar[..., None] * first.weight[0] + first.bias
    width = tebd_TC.shape[1]
    for k, index in enumerate(types):
        total = total + (tebd_TC @ first.weight[1 + k * width : 1 + (k + 1) * width])[index]
    y = act(total)
    num_in, num_out = first.weight.shape
    if num_out in (num_in, 2 * num_in):
        rows = [jnp.broadcast_to(tebd_TC[index], (*scalar.shape, width)) for index in types]
        y = close_hidden(jnp.concatenate([scalar[..., None], *rows], -1), y, first.get("timestep"))
    return hidden_layers(rest, act, y)


def repinit(
    config: Descriptor,
    weights: Part,
    tebd_TC: Array,
    types_N: Array,
    neighbors: Neighbors,
    keep_TT: NDArray[np.bool_] | None,
) -> Array:
    """Return M_i^T M_i[:, :axis] with M_i = sum_j R_ij G_ij / nsel, (N, C * axis)."""
    r = config.repinit
    env_NKR, w_NK, _ = environment_matrix(
        weights.statistics, types_N, neighbors.disp, r.rcut_smth, r.rcut, config.env_protection
    )
    # Excluded pairs vanish; empty slots keep what a mean other than zero makes of them.
    used_NK = kept(keep_TT, types_N, neighbors) | ~neighbors.filled
    env_NKR = jnp.where(used_NK[..., None], env_NKR, 0.0)
    types = [neighbors.types] if r.type_one_side else [neighbors.types, types_N[:, None]]
    g_NKC = typed_embedding(
        weights.embedding,
        activation(r.activation_function),
        env_NKR[..., 0],
        tebd_TC,
        types,
        w_NK if config.smooth else None,
    )
    m_NRC = jnp.einsum("nkr,nkc->nrc", env_NKR, g_NKC) / env_NKR.shape[1]
    d_NCA = jnp.einsum("nrc,nra->nca", m_NRC, m_NRC[..., : r.axis_neuron])
    return d_NCA.reshape(d_NCA.shape[0], d_NCA.shape[1] * d_NCA.shape[2])


def three_body(
    config: Descriptor,
    weights: Part,
    tebd_TC: Array,
    types_N: Array,
    neighbors: Neighbors,
    keep_TT: NDArray[np.bool_] | None,
) -> Array:
    """Return sum_jk c_jk G(c_jk, type_j, type_k) / nsel^2 with c_jk = n_ij . n_ik, (N, C)."""
    r = config.repinit
    env_NKR, w_NK, _ = environment_matrix(
        weights.statistics,
        types_N,
        neighbors.disp,
        r.three_body_rcut_smth,
        r.three_body_rcut,
        config.env_protection,
    )
    kept_NK = kept(keep_TT, types_N, neighbors)
    env_NKR = jnp.where((kept_NK | ~neighbors.filled)[..., None], env_NKR, 0.0)
    w_NK = w_NK * kept_NK
    n_NKX = env_NKR[..., 1:]
    c_NKK = jnp.einsum("njx,nkx->njk", n_NKX, n_NKX)
    g_NKKC = typed_embedding(
        weights.embedding,
        activation(r.activation_function),
        c_NKK,
        tebd_TC,
        [neighbors.types[:, :, None], neighbors.types[:, None, :]],
        w_NK[:, :, None] * w_NK[:, None, :] if config.smooth else None,
    )
    return jnp.einsum("njk,njkc->nc", c_NKK, g_NKKC) / env_NKR.shape[1] ** 2
