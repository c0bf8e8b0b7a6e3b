"""From frames in cells to atoms with ghosts and neighbour lists, in TensorFlow.

docs/deepmd-format.md, 3.1.

This serves callers without a neighbour search of their own. All pairs are compared: correct for
every cell, fast enough for a few thousand atoms.
"""

# Axes:  F frames   N atoms per frame   M atoms and ghosts   S shifts   K neighbour slots
#        X = x, y, z

from typing import Any

import tensorflow as tf

# Images a hair outside the cutoff do no harm; a missing one does.
MARGIN = 1e-6


def extend(coord_FNX: Any, types_FN: Any, box_FXX: Any, rcut: float) -> tuple[Any, Any, Any]:
    """Wrap atoms into their cells and add every image within `rcut` of a cell.

    Args:
        coord_FNX: (F, N, 3) Å.
        types_FN: (F, N); -1 where there is no atom.
        box_FXX: (F, 3, 3) Å, rows are vectors, of either handedness; (F, 0, 0): not periodic.
        rcut: Å.

    Returns:
        Positions (F, M, 3), types (F, M) and the atom of which each is an image (F, M).
    """
    F, N = tf.shape(types_FN)[0], tf.shape(types_FN)[1]
    own_FN = tf.tile(tf.range(tf.cast(N, tf.int64))[None], [F, 1])

    def periodic() -> tuple[Any, Any, Any]:
        s_FNX = coord_FNX @ tf.linalg.inv(box_FXX)
        s_FNX = s_FNX - tf.floor(s_FNX)
        sides = [tf.linalg.cross(box_FXX[:, a - 2], box_FXX[:, a - 1]) for a in range(3)]
        areas_FX = tf.stack([tf.norm(side, axis=-1) for side in sides], axis=-1)
        # The cutoff in units of the distances between opposite faces.
        reach_FX = rcut * areas_FX / tf.abs(tf.linalg.det(box_FXX))[:, None] + MARGIN
        shifts_SX = shifts(tf.reduce_max(reach_FX, axis=0))
        t_FSNX = s_FNX[:, None] + shifts_SX[None, :, None]
        reach_F11X = reach_FX[:, None, None]
        near_FSN = tf.reduce_all((t_FSNX >= -reach_F11X) & (t_FSNX <= 1.0 + reach_F11X), axis=-1)
        # All frames take the images that any of them needs, so that they stay of one size.
        near_SN = tf.reduce_any(near_FSN & (types_FN >= 0)[:, None], axis=0)
        chosen = tf.where(near_SN)
        shift_GX, parent_G = tf.gather(shifts_SX, chosen[:, 0]), chosen[:, 1]
        wrapped_FNX = s_FNX @ box_FXX
        images_FGX = tf.gather(wrapped_FNX, parent_G, axis=1) + shift_GX[None] @ box_FXX
        return (
            tf.concat([wrapped_FNX, images_FGX], axis=1),
            tf.concat([types_FN, tf.gather(types_FN, parent_G, axis=1)], axis=1),
            tf.concat([own_FN, tf.tile(parent_G[None], [F, 1])], axis=1),
        )

    def in_vacuum() -> tuple[Any, Any, Any]:
        return coord_FNX, types_FN, own_FN

    return tf.cond(tf.shape(box_FXX)[-1] > 0, periodic, in_vacuum)


def shifts(reach_X: Any) -> Any:
    """Return all shifts by whole cells within `reach_X` (S, 3) but (0, 0, 0)."""
    count_X = tf.math.ceil(reach_X)
    ranges = [tf.range(-count_X[a], count_X[a] + 1.0) for a in range(3)]
    grid_SX = tf.reshape(tf.stack(tf.meshgrid(*ranges, indexing="ij"), axis=-1), [-1, 3])
    return tf.boolean_mask(grid_SX, tf.reduce_any(grid_SX != 0.0, axis=-1))


def all_pairs(coord_FMX: Any, types_FM: Any, num_atoms: Any, rcut: float, nsel: int) -> Any:
    """Return the nearest neighbours within `rcut` (F, N, K), -1 in empty slots, K <= `nsel`."""
    squared_FNM = tf.add_n(
        [
            (coord_FMX[:, :num_atoms, None, axis] - coord_FMX[:, None, :, axis]) ** 2
            for axis in range(3)
        ]
    )
    M = tf.shape(types_FM)[1]
    itself_NM = tf.range(num_atoms)[:, None] == tf.range(M)[None]
    nobody_FNM = (types_FM < 0)[:, None, :] | (types_FM[:, :num_atoms] < 0)[:, :, None]
    far = tf.constant(float("inf"), squared_FNM.dtype)
    squared_FNM = tf.where(itself_NM[None] | nobody_FNM, far, squared_FNM)
    negative, index = tf.math.top_k(-squared_FNM, k=tf.minimum(nsel, M))
    return tf.where(-negative <= rcut * rcut, tf.cast(index, tf.int64), tf.constant(-1, tf.int64))


def fold(values: Any, mapping_FM: Any, num_atoms: Any) -> Any:
    """Add what images received (F, M, ...) to their atoms (F, N, ...)."""
    F = tf.shape(mapping_FM)[0]
    first_F = tf.range(tf.cast(F, tf.int64)) * tf.cast(num_atoms, tf.int64)
    shape = tf.shape(values)
    flat = tf.reshape(values, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0))
    row = tf.reshape(mapping_FM + first_F[:, None], [-1])
    total = tf.math.unsorted_segment_sum(flat, row, F * num_atoms)
    return tf.reshape(total, tf.concat([[F, num_atoms], shape[2:]], axis=0))
