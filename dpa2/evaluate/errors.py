"""Quantities that a model is compared by, and their mean absolute and root mean square errors.

Axes: F frames, A atoms of all frames together, padding left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import PADDING, Frames, IntArray
from dpa2.formats.structures import Evaluation

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One line of the error table: its key, its name for people and its unit."""

    key: str
    label: str
    unit: str


QUANTITIES = {
    quantity.key: quantity
    for quantity in (
        Quantity("energy", "Energy", "eV"),
        Quantity("energy_per_atom", "Energy/atom", "eV"),
        Quantity("force", "Force", "eV/Å"),
        Quantity("force_weighted", "Force, weighted", "eV/Å"),
        Quantity("virial", "Virial", "eV"),
        Quantity("virial_per_atom", "Virial/atom", "eV"),
        Quantity("stress", "Stress", "eV/Å³"),
        Quantity("atom_energy", "Atom energy", "eV"),
    )
}
"""All quantities, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Labels and predictions of one quantity, of equal shape.

    Attributes:
        reference: Labels, (F,), (F, 3, 3), (A,) or (A, 3).
        prediction: What the model says, same shape.
        weights: Weight of each number, or None where all count once.
    """

    reference: FloatArray
    prediction: FloatArray
    weights: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Some frames of one system as labelled and as predicted.

    Attributes:
        system: Name of the system.
        num_frames: F.
        pairs: The quantities that the data has labels for, in the order of `QUANTITIES`.
        atom_types: (A,) type of each row of the pairs that count per atom.
    """

    system: str
    num_frames: int
    pairs: dict[str, Pair]
    atom_types: IntArray


def compare(frames: Frames, evaluation: Evaluation) -> Comparison:
    """Set the labels of `frames` beside the predictions; what has no label is left out.

    Per-atom values divide by the number of real atoms, and padding is not compared (deepmd-kit
    counts padded atoms as perfectly predicted ones; where nothing is padded the two agree).
    """
    real = frames.atom_types != PADDING
    num_atoms = frames.real_atoms.astype(np.float64)
    pairs: dict[str, Pair] = {}
    if frames.energy is not None:
        pairs["energy"] = Pair(frames.energy, evaluation.energy)
        pairs["energy_per_atom"] = Pair(frames.energy / num_atoms, evaluation.energy / num_atoms)
    if frames.force is not None:
        force = Pair(frames.force[real], evaluation.force[real])
        pairs["force"] = force
        if frames.atom_pref is not None:
            weights = frames.atom_pref[real]
            pairs["force_weighted"] = Pair(force.reference, force.prediction, weights)
    if frames.virial is not None and frames.box is not None:
        per_frame = num_atoms[:, None, None]
        volume = np.abs(np.linalg.det(frames.box))[:, None, None]
        pairs["virial"] = Pair(frames.virial, evaluation.virial)
        pairs["virial_per_atom"] = Pair(frames.virial / per_frame, evaluation.virial / per_frame)
        pairs["stress"] = Pair(-frames.virial / volume, -evaluation.virial / volume)
    if frames.atom_energy is not None and evaluation.atom_energy is not None:
        pairs["atom_energy"] = Pair(frames.atom_energy[real], evaluation.atom_energy[real])
    return Comparison(frames.system, frames.num_frames, pairs, frames.atom_types[real])


@dataclass(frozen=True, slots=True)
class ErrorStat:
    """The error of one quantity over some numbers.

    Attributes:
        mae: Mean absolute error, in the quantity's unit.
        rmse: Root mean square error, in the quantity's unit.
        weight: How many numbers it was taken over (3 per atom for forces, 9 per frame for virials).
    """

    mae: float
    rmse: float
    weight: float


Errors = dict[str, ErrorStat]
"""Errors by the key of their quantity (see `quantities.QUANTITIES`)."""


def error_stat(
    difference: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> ErrorStat:
    """Reduce differences of any shape to their MAE and RMSE, weighted where weights are given.

    Weights that sum to nothing give zero errors of zero weight, which no average then notices.
    """
    total = float(difference.size) if weights is None else float(weights.sum())
    if total <= 0.0:
        return ErrorStat(0.0, 0.0, 0.0)
    if weights is None:
        weights = np.ones_like(difference)
    mae = float(np.sum(weights * np.abs(difference)) / total)
    rmse = float(np.sqrt(np.sum(weights * difference**2) / total))
    return ErrorStat(mae, rmse, total)


def errors_of(comparison: Comparison) -> Errors:
    """Compute the error of every quantity that the data has labels for."""
    return {
        key: error_stat(pair.prediction - pair.reference, pair.weights)
        for key, pair in comparison.pairs.items()
    }


def merge(parts: Iterable[Mapping[str, ErrorStat]]) -> Errors:
    """Combine errors over disjoint data exactly: mean of MAE, root of the mean of RMSE squared.

    Each part counts by its weight, the number of compared numbers (docs/deepmd-format.md, 7.1).
    A quantity that only some parts have is averaged over those.
    """
    stats: dict[str, list[ErrorStat]] = {}
    for part in parts:
        for key, stat in part.items():
            stats.setdefault(key, []).append(stat)
    return {key: _merge_one(stats[key]) for key in QUANTITIES if key in stats}


def _merge_one(stats: list[ErrorStat]) -> ErrorStat:
    weights = np.array([stat.weight for stat in stats])
    total = float(weights.sum())
    if total <= 0.0:
        return ErrorStat(0.0, 0.0, 0.0)
    mae = float(weights @ np.array([stat.mae for stat in stats]) / total)
    mean_square = float(weights @ np.array([stat.rmse for stat in stats]) ** 2 / total)
    return ErrorStat(mae, float(np.sqrt(mean_square)), total)
