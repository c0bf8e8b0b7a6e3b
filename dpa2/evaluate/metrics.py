"""Mean absolute and root mean square errors, and how those of several systems combine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpa2.evaluate.quantities import QUANTITIES, Comparison


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
