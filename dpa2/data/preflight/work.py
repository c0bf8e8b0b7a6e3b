"""Work of forces and stresses, from which the units of energies and virials follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpa2.data.cells import pairs_within
from dpa2.data.frames import PADDING, FloatArray, Frames, IntArray

# Axes:  F frames   S steps from a frame to the next   N atoms


_SHORT_STEP = 0.3
"""Å; atoms that move less between frames stay on one slope of the energy, ..."""
_LONG_STEP = 0.6
_MEAN_STEP = 0.1
"""... or as many that move less than `_LONG_STEP`, and less than this in the mean."""
_SMALL_STRAIN = 0.06
_SAME_CELL = 1e-6
_FEW = 5
_NOISE = 1e-5
"""eV; smaller changes are rounding, whatever the unit."""
_EXPLAINED = 0.85
"""Part of the changes of the energy that the work must explain."""
_BEYOND_CHANCE = 20.0
"""Times (of variances, as in an F test) that other factors than 1 must be better than 1 is."""
_SURELY_FEW = 9
_MISSED = 0.4
"""Part of the changes that no factor explains; right data that follow no slope miss 0.25."""
_CHANGE = 0.02
"""eV; smaller changes may be those of a calculation that is not quite converged."""
_MATERIAL = 0.03
"""Part of them that a kind of work must explain for its factor to be known."""

NUM_SUMS = 7


@dataclass(frozen=True, slots=True)
class Factors:
    """By what the work must be multiplied to give the change of the energy: 1 in the right units.

    Attributes:
        force: For the work of the forces; None where they do none worth mentioning.
        virial: For the work of the stress, likewise.
    """

    force: float | None
    virial: float | None


def work_sums(frames: Frames) -> FloatArray:
    """Return sums over short steps between consecutive frames, from which `factors_of` concludes.

    The trapezoidal rule, exact for harmonic motion: dE = -(F + F')·dx / 2 - (W + W'):strain / 2,
    dx being the motion in a cell that strain carries along. Steps that change the cell need
    virials, those that move atoms need forces.

    Returns:
        Number, dE², f², w², dE·f, dE·w, f·w for the works f of the forces and w of the stress.
    """
    if frames.energy is None or frames.num_frames < 2:
        return np.zeros(NUM_SUMS)
    move, strain = _steps(frames)
    if not (np.isfinite(move).all() and np.isfinite(strain).all()):
        return np.zeros(NUM_SUMS)  # the cell between cells of either hand may have no volume
    turn = _turns(frames, move)
    move, later_force = _turned_back(frames, move, turn)
    same_atoms = (frames.atom_types[1:] == frames.atom_types[:-1]).all(axis=1)
    longest = np.abs(move).max(axis=(1, 2), initial=0.0)
    widest = np.abs(strain).max(axis=(1, 2))
    size = np.maximum((frames.atom_types[1:] >= 0).sum(axis=1), 1)
    mean = np.sqrt(np.square(move).sum(axis=(1, 2)) / (3 * size))
    short = (longest < _SHORT_STEP) | ((longest < _LONG_STEP) & (mean < _MEAN_STEP))
    short &= same_atoms & (widest < _SMALL_STRAIN)
    short &= np.diff(frames.indices) == 1
    work, stress_work = np.zeros(len(move)), np.zeros(len(move))
    if frames.force is None or later_force is None:
        short &= longest < _SAME_CELL
    else:
        work = -0.5 * ((later_force + frames.force[:-1]) * move).sum(axis=(1, 2))
    if frames.virial is None:
        short &= widest < _SAME_CELL
    else:
        stress_work = -0.5 * ((frames.virial[1:] + frames.virial[:-1]) * strain).sum(axis=(1, 2))
    rows = np.stack([np.diff(frames.energy), work, stress_work])[:, short]
    e, f, w = rows[:, np.isfinite(rows).all(axis=0)]
    return np.array([len(e), e @ e, f @ f, w @ w, e @ f, e @ w, f @ w])


def _steps(frames: Frames) -> tuple[FloatArray, FloatArray]:
    """Return the motion (S, N, 3) of atoms in their cells and the strain (S, 3, 3) of these."""
    if frames.box is None:
        return np.diff(frames.coord, axis=0), np.zeros((frames.num_frames - 1, 3, 3))
    fraction = np.diff(frames.coord @ np.linalg.inv(frames.box), axis=0)
    fraction -= np.rint(fraction)
    middle = 0.5 * (frames.box[1:] + frames.box[:-1])
    if not (np.abs(np.linalg.det(middle)) > 0).all():  # between cells of either hand
        return fraction * np.inf, middle * np.inf
    strain = np.linalg.solve(middle, np.diff(frames.box, axis=0))
    return fraction @ middle, np.asarray(strain, dtype=np.float64)


def _turns(frames: Frames, move: FloatArray) -> FloatArray:
    """Return the rotations (S, 3, 3) of molecules from frame to frame; none in a crystal.

    A stiff bond that turns by 0.3 does not follow the trapezoidal rule.
    """
    turns = np.tile(np.eye(3), (len(move), 1, 1))
    start = frames.coord[:-1]
    alone = np.ones(len(move), dtype=np.bool_)
    if frames.box is not None:  # and not cut by the boundary of the cell
        width = np.ptp(start, axis=1).max(axis=1) + np.abs(move).max(axis=(1, 2))
        alone = width < 0.5 * np.linalg.norm(frames.box[:-1], axis=2).min(axis=1)
    before = start[alone] - start[alone].mean(axis=1, keepdims=True)
    after = (start + move)[alone]
    after = after - after.mean(axis=1, keepdims=True)
    left, _, right = np.linalg.svd(np.swapaxes(after, 1, 2) @ before)
    left[:, :, -1] *= np.sign(np.linalg.det(left @ right))[:, None]  # no reflections
    turns[alone] = left @ right
    return turns


def _turned_back(
    frames: Frames, move: FloatArray, turn: FloatArray
) -> tuple[FloatArray, FloatArray | None]:
    """Return motions and the forces of the later frame (S, N, 3) without rotations."""
    start = frames.coord[:-1]
    after = start + move
    center, later_center = start.mean(axis=1, keepdims=True), after.mean(axis=1, keepdims=True)
    unmoved = (after - later_center) @ turn + later_center - start
    turned = (turn != np.eye(3)).any(axis=(1, 2))[:, None, None]
    unmoved = unmoved - np.where(turned, later_center - center, 0.0)
    force = None if frames.force is None else frames.force[1:] @ turn
    return np.where(turned, unmoved, move), force


def factors_of(sums: FloatArray) -> Factors:
    """Return what the sums say; nothing where the work does not explain the energies."""
    number, ee, ff, ww, ef, ew, fw = sums.tolist()
    if number < _FEW or ee < number * _NOISE**2:
        return Factors(None, None)
    factors, explained, used = _fit(sums)
    if explained < _EXPLAINED * ee:
        return Factors(None, None)
    missed = max(ee - explained, _NOISE**2)
    missed_by_one = ee - 2 * (ef + ew) + ff + ww + 2 * fw
    freedom = number - len(used)
    if freedom < _SURELY_FEW and len(used) == 2:
        chance = (missed_by_one - missed) / len(used) / (missed / freedom)
        if chance < _BEYOND_CHANCE:
            factors = np.where(factors != 0, 1.0, 0.0)
    share = factors**2 * np.array([ff, ww]) / ee
    force, virial = (
        float(factor) if part > _MATERIAL else None
        for factor, part in zip(factors, share, strict=True)
    )
    return Factors(force, virial)


def unexplained(sums: FloatArray) -> float | None:
    """Return which part of the energies' changes is no work, by whatever factors; None: little.

    Forces and energies of one structure explain most of it in any units.
    """
    number, ee, ff, *_ = sums.tolist()
    if number < _SURELY_FEW or ee < number * _CHANGE**2 or ff < number * _NOISE**2:
        return None
    missed = 1.0 - _fit(sums)[1] / ee
    return float(missed) if missed > _MISSED else None


def _fit(sums: FloatArray) -> tuple[FloatArray, float, IntArray]:
    """Return the best factors of both kinds of work, what they explain, and which are used."""
    number, _, ff, ww, ef, ew, fw = sums.tolist()
    products = np.array([[ff, fw], [fw, ww]])
    with_energy = np.array([ef, ew])
    used = np.flatnonzero(np.array([ff, ww]) > number * _NOISE**2)
    if len(used) == 2 and fw**2 > 0.9 * ff * ww:  # they cannot be told apart
        used = used[[int(ww > ff)]]
    factors = np.zeros(2)
    factors[used] = np.linalg.lstsq(products[np.ix_(used, used)], with_energy[used], rcond=None)[0]
    return factors, float(factors @ with_energy), used


# Axes:  F frames   N atoms   E ordered pairs   P unknowns   X, Y = x, y, z


_REACH = 6.0
"""Å; pairs further apart are left out of the estimate."""
_KNOTS = 10
_EQUATIONS = 10
"""For each unknown, so that the fit is no accident."""
_MOST_ATOMS = 300
_MOST_FRAMES = 10
_LEAST_FRAMES = 4
_MOST_ELEMENTS = 4
_WEAK_FORCE = 1e-4
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
    if np.nanmax(np.abs(frames.force), initial=0.0) < _WEAK_FORCE:  # 0 by symmetry
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
