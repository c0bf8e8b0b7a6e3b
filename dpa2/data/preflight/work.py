"""Whether energies change from frame to frame as forces and virials say: in what units they are."""

# Axes:  F frames   S steps from a frame to the next   N atoms

from dataclasses import dataclass

import numpy as np

from dpa2.data.frames import FloatArray, Frames, IntArray

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
