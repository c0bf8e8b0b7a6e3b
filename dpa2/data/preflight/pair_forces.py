"""What forces alone tell of virials, and when they may be 0 by symmetry."""

# Axes:  F frames   N atoms   E ordered pairs   P unknowns   X, Y = x, y, z

from collections.abc import Sequence

import numpy as np

from dpa2.data.frames import PADDING, FloatArray, Frames, IntArray
from dpa2.data.preflight.neighbors import pairs_within

_REACH = 6.0
"""Å; pairs further apart are left out of the estimate."""
_KNOTS = 10
_EQUATIONS = 10
"""For each unknown, so that the fit is no accident."""
_MOST_ATOMS = 300
_MOST_FRAMES = 10
_LEAST_FRAMES = 4
_MOST_ELEMENTS = 4
_NOISE = 1e-4
"""eV/Å; forces below are rounding."""
_LOPSIDED = 0.003
"""Part of all pulls that may be left over where forces are 0 by symmetry, for rounding."""


def virial_sums(frames: Frames) -> FloatArray:
    """Return sums that compare virials with what forces say of them: frames, x², y², x·y.

    x are virials from forces, y those in the data. Without periodic boundaries x is the sum of
    position times force, which is exact. In a cell, forces are fitted by pair potentials, and the
    shear and the differences along the axes that these have are compared, each less its mean over
    the frames: that misses what bonds' angles and densities contribute, but not units.
    """
    none = np.zeros(4)
    if frames.virial is None or frames.force is None:
        return none
    if np.nanmax(np.abs(frames.force), initial=0.0) < _NOISE:  # 0 by symmetry
        return none
    fine = np.isfinite(frames.force).all(axis=(1, 2)) & np.isfinite(frames.virial).all(axis=(1, 2))
    chosen = np.flatnonzero(fine)
    if frames.box is None:
        x = np.einsum("fnx,fny->fxy", frames.coord[chosen], frames.force[chosen])
        y = frames.virial[chosen]
    else:
        chosen = chosen[:: max(1, -(-len(chosen) // _MOST_FRAMES))]
        if len(chosen) < _LEAST_FRAMES or frames.num_atoms > _MOST_ATOMS:
            return none
        part = frames.select(chosen)
        estimate = _pair_virials(part)
        if estimate is None or part.virial is None:
            return none
        x, y = _without_pressure(estimate), _without_pressure(part.virial)
    return np.array([len(chosen), np.sum(x * x), np.sum(y * y), np.sum(x * y)])


def virial_factor(sums: FloatArray, *, periodic: bool) -> float | None:
    """Return by what virials must be multiplied to be those of the forces; None: unknown."""
    number, xx, yy, xy = sums.tolist()
    if not number or xx <= 0 or yy <= 0 or xy**2 < (0.5 if periodic else 0.98) * xx * yy:
        return None
    return float(np.sign(xy) * np.sqrt(xx / yy))


def _without_pressure(virial: FloatArray) -> FloatArray:
    symmetric = 0.5 * (virial + virial.transpose(0, 2, 1))
    trace = np.trace(symmetric, axis1=1, axis2=2)[:, None, None] / 3
    rest = symmetric - trace * np.eye(3)
    return np.asarray(rest - rest.mean(axis=0))


def _pair_virials(frames: Frames) -> FloatArray | None:
    """Return virials (F, 3, 3) of the pair potentials that fit the forces best."""
    assert frames.force is not None
    assert frames.box is not None
    kinds = np.unique(frames.atom_types[frames.atom_types != PADDING])
    number = {kind: place for place, kind in enumerate(kinds.tolist())}
    num_unknowns = len(kinds) * (len(kinds) + 1) // 2 * _KNOTS
    if len(kinds) > _MOST_ELEMENTS or 3 * frames.real_atoms.sum() < _EQUATIONS * num_unknowns:
        return None
    matrices, targets, virials = [], [], []
    for frame in range(frames.num_frames):
        real = frames.atom_types[frame] != PADDING
        types = np.array([number[kind] for kind in frames.atom_types[frame][real].tolist()])
        i, j, vector = pairs_within(frames.coord[frame][real], frames.box[frame], _REACH)
        distance = np.linalg.norm(vector, axis=1)
        if not len(i) or not distance.min() > 0:
            return None
        weights = _hats(distance)
        low, high = np.minimum(types[i], types[j]), np.maximum(types[i], types[j])
        columns = (high * (high + 1) // 2 + low)[:, None] * _KNOTS + np.arange(_KNOTS)
        direction = vector / distance[:, None]
        matrix = np.zeros((len(types), 3, num_unknowns))
        for axis in range(3):
            np.add.at(matrix[:, axis], (i[:, None], columns), weights * direction[:, axis, None])
        matrices.append(matrix.reshape(-1, num_unknowns))
        targets.append(frames.force[frame][real].reshape(-1))
        part = np.zeros((3, 3, num_unknowns))
        for x in range(3):
            for y in range(3):
                moment = -0.5 * vector[:, x] * direction[:, y]
                np.add.at(part[x, y], columns, weights * moment[:, None])
        virials.append(part)
    a, b = np.concatenate(matrices), np.concatenate(targets)
    normal = a.T @ a
    ridge = 1e-6 * np.trace(normal) / num_unknowns
    unknowns = np.linalg.solve(normal + ridge * np.eye(num_unknowns), a.T @ b)
    return np.asarray(np.stack(virials) @ unknowns)


def _hats(distance: FloatArray) -> FloatArray:
    """Return the weights (E, P) of knots evenly spaced in 1 / r, the force being 0 at the last."""
    place = (1 / distance - 1 / _REACH) / (1.0 - 1 / _REACH) * _KNOTS
    place = np.clip(place, 0.0, _KNOTS)
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(1, _KNOTS + 1)))


def is_lopsided(
    coord: FloatArray, box: FloatArray | None, types: IntArray, names: Sequence[str]
) -> bool:
    """Tell whether an atom has more neighbours to one side: its force is then 0 by chance only.

    Args:
        coord: (N, 3) Å.
        box: (3, 3) Å or None.
        types: (N,), padding -1.
        names: Elements.
    """
    real = types != PADDING
    i, j, vector = pairs_within(coord[real], box, _REACH)
    if not len(i):
        return False
    distance = np.linalg.norm(vector, axis=1)
    weight = (1.0 - distance / _REACH) ** 2 * (1.0 + types[real][j] / (1 + len(names)))
    pull = np.zeros((int(real.sum()), 3))
    np.add.at(pull, i, weight[:, None] * vector / distance[:, None])
    total = np.bincount(i, weights=weight, minlength=len(pull))
    return bool((np.linalg.norm(pull, axis=1) > _LOPSIDED * total).any())
