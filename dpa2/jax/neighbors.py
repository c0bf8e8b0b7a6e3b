"""Neighbour lists of one frame: nearest first, each shorter one cut from the longest.

docs/deepmd-format.md, 3.1.
"""

# Axes:  N centre atoms   M atoms and ghosts   W slots given   K slots kept   X = x, y, z
#        R = the four columns (s, s x/r, s y/r, s z/r) of the environment matrix

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dpa2.jax.weights import Array, Part


class Neighbors(NamedTuple):
    """The list of one block; all `nsel` slots, the empty ones too.

    Attributes:
        rows: (N, K) row of the neighbour among atoms and ghosts; 0 in empty slots.
        filled: (N, K) bool.
        disp: (N, K, 3) Å, neighbour minus centre; longer than the cutoff in empty slots.
        types: (N, K) type of the neighbour; in empty slots, as in deepmd-kit, of the first atom.
    """

    rows: Array
    filled: Array
    disp: Array
    types: Array


def nearest(
    coord_MX: Array, types_M: Array, nlist_NW: Array, rcut: float, nsel: int, *, sort: bool
) -> Array:
    """Return the `nsel` nearest neighbours within `rcut` (N, nsel), nearest first, -1 if empty.

    Args:
        coord_MX: Å; the first N are the centres.
        types_M: -1 where there is no atom.
        nlist_NW: Row of each neighbour; -1 in empty slots. It may reach beyond `rcut`.
        rcut: Å.
        nsel: Capacity.
        sort: Whether the list may be in any order. Otherwise it is nearest first already, and empty
            slots between neighbours stay where they are.
    """
    N, W = nlist_NW.shape
    if nsel > W:
        nlist_NW = jnp.pad(nlist_NW, [(0, 0), (0, nsel - W)], constant_values=-1)
    row_NW = jnp.maximum(nlist_NW, 0)
    disp_NWX = jax.lax.stop_gradient(coord_MX[row_NW] - coord_MX[:N, None])
    squared_NW = (disp_NWX * disp_NWX).sum(axis=-1)
    filled_NW = (nlist_NW >= 0) & (squared_NW <= rcut * rcut)
    filled_NW = filled_NW & (types_M[row_NW] >= 0) & (types_M[:N, None] >= 0)
    nlist_NW = jnp.where(filled_NW, nlist_NW, -1)
    if sort:
        order_NW = jnp.argsort(jnp.where(filled_NW, squared_NW, jnp.inf), axis=1)
        nlist_NW = jnp.take_along_axis(nlist_NW, order_NW, axis=1)
    return nlist_NW[:, :nsel]


def without_pairs(nlist_NK: Array, types_M: Array, keep_TT: NDArray[np.bool_]) -> Array:
    """Empty the slots of pairs of types that the model leaves out (`pair_exclude_types`)."""
    N = nlist_NK.shape[0]
    types_M = jnp.maximum(types_M, 0)
    kept_NK = jnp.asarray(keep_TT)[types_M[:N, None], types_M[jnp.maximum(nlist_NK, 0)]]
    return jnp.where(kept_NK, nlist_NK, -1)


def cut(
    coord_MX: Array, types_M: Array, nlist_NK: Array, rcut: float, nsel: int, capacity: int
) -> Neighbors:
    """Return a block's own list: the nearest `capacity` within `rcut`, in `nsel` slots.

    Args:
        coord_MX: Å.
        types_M: Types of atoms and ghosts, none negative.
        nlist_NK: Nearest first; -1 in empty slots.
        rcut: Of the block, Å.
        nsel: Of the block.
        capacity: How many may be taken; the lists between this one and the longest limit it.
    """
    N, K = nlist_NK.shape
    taken = min(K, capacity)
    nlist_NK = jnp.pad(nlist_NK[:, :taken], [(0, 0), (0, nsel - taken)], constant_values=-1)
    row_NK = jnp.maximum(nlist_NK, 0)
    disp_NKX = coord_MX[row_NK] - coord_MX[:N, None]
    filled_NK = (nlist_NK >= 0) & ((disp_NKX * disp_NKX).sum(axis=-1) <= rcut * rcut)
    row_NK = jnp.where(filled_NK, row_NK, 0)
    # Not a place where atoms could coincide: the gradient of |0| is not a number.
    far_X = jnp.array([2.0 * rcut, 0.0, 0.0], dtype=coord_MX.dtype)
    disp_NKX = jnp.where(filled_NK[..., None], disp_NKX, far_X)
    return Neighbors(row_NK, filled_NK, disp_NKX, types_M[row_NK])


def kept(keep_TT: NDArray[np.bool_] | None, types_N: Array, neighbors: Neighbors) -> Array:
    """Return (N, K) bool: whether the pair of types of each slot takes part (`exclude_types`)."""
    if keep_TT is None:
        return jnp.ones_like(neighbors.filled)
    return jnp.asarray(keep_TT)[types_N[:, None], neighbors.types]


def smooth_switch(r_NK: Array, rcut_smth: float, rcut: float) -> Array:
    """Return w(r): 1 below `rcut_smth`, 0 beyond `rcut`, a quintic between.

    docs/deepmd-format.md, 3.3.
    """
    u = jnp.clip((r_NK - rcut_smth) / (rcut - rcut_smth), 0.0, 1.0)
    return 1.0 + u * u * u * (u * (15.0 - 6.0 * u) - 10.0)


def environment_matrix(
    statistics: Part,
    types_N: Array,
    disp_NKX: Array,
    rcut_smth: float,
    rcut: float,
    protection: float,
) -> tuple[Array, Array, Array]:
    """Return the normalised environment matrix (N, K, 4), the switch (N, K) and r (N, K)."""
    r_NK = jnp.sqrt((disp_NKX * disp_NKX).sum(axis=-1))
    w_NK = smooth_switch(r_NK, rcut_smth, rcut)
    inverse = 1.0 / (r_NK + protection)
    s_NK = w_NK * inverse
    raw_NKR = jnp.concatenate([s_NK[..., None], disp_NKX * (s_NK * inverse)[..., None]], axis=-1)
    env_NKR = (raw_NKR - statistics.mean[types_N]) / statistics.stddev[types_N]
    return env_NKR, w_NK, r_NK
