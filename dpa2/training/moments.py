"""Count, sum and sum of squares: from these come every mean and spread.

docs/deepmd-format.md, 5.2.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SMALLEST_SPREAD = 1e-2
"""A smaller standard deviation is replaced by this, so that dividing by it is harmless."""
UNSEEN_SPREAD = 1e-1
"""Standard deviation of a type that the data do not contain."""


@dataclass(frozen=True)
class Moments:
    """Moments of a set of numbers.

    Attributes:
        count: How many numbers.
        total: Their sum.
        squares: The sum of their squares.
    """

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: FloatArray, *, empty: int = 0) -> Self:
        """Return the moments of an array, joined by `empty` zeros that need not be stored."""
        return cls(
            count=float(values.size + empty),
            total=float(values.sum()),
            squares=float(np.square(values).sum()),
        )

    @classmethod
    def from_array(cls, stored: FloatArray) -> Self:
        """Return moments from `[count, sum, sum of squares]`, their form in a stat_file."""
        count, total, squares = (float(value) for value in stored)
        return cls(count, total, squares)

    def to_array(self) -> FloatArray:
        """Return `[count, sum, sum of squares]`."""
        return np.array([self.count, self.total, self.squares])

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def scaled(self, weight: float) -> "Moments":
        """Return the moments of numbers that count `weight` times each."""
        return Moments(self.count * weight, self.total * weight, self.squares * weight)

    def mean(self) -> float:
        """Return the mean; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def spread(self, smallest: float = SMALLEST_SPREAD) -> float:
        """Return the standard deviation, at least `smallest`; 0.1 of nothing."""
        if not self.count:
            return UNSEEN_SPREAD
        variance = self.squares / self.count - self.mean() ** 2
        value = float(np.sqrt(max(variance, 0.0)))
        return max(value, smallest)
