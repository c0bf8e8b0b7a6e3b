"""The deepmd layout as named texts and per-set arrays, apart from what holds them on disk."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Store(ABC):
    """What a system in the deepmd layout is read from: a folder or a group of an HDF5 file.

    Attributes:
        name: The path as the user wrote it.
        path: The folder or file itself.
    """

    name: str
    path: Path

    @abstractmethod
    def sets(self) -> list[str]:
        """Return the names of the sets (`set.000`, ...), sorted."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Tell whether the system has a top-level file (`nopbc`, `type_map.raw`)."""

    @abstractmethod
    def words(self, name: str) -> list[str]:
        """Read a top-level text as words (`type.raw`, `type_map.raw`)."""

    @abstractmethod
    def shape(self, set_name: str, stem: str) -> tuple[int, ...] | None:
        """Return the shape of an array, checked to hold real numbers; None if absent.

        Raises:
            DataError: If the array cannot be read or does not hold real numbers.
        """

    @abstractmethod
    def rows(self, set_name: str, stem: str, rows: NDArray[np.int64] | None) -> NDArray[Any]:
        """Read rows of an array's first axis, in the given order; None reads the whole array."""

    @abstractmethod
    def where(self, set_name: str, stem: str) -> str:
        """Name an array in a message: `data/water/set.000/coord.npy`."""

    @property
    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Files that hold the content, in a fixed order."""


def describe_bad_dtype(dtype: np.dtype[Any]) -> str | None:
    """Say what is wrong with a dtype where real numbers are expected; None if it will do."""
    if dtype.kind in "fiub":
        return None
    kinds = {
        "c": "complex numbers",
        "U": "text",
        "S": "text",
        "O": "pickled Python objects",
        "V": "records",
    }
    return f"{kinds.get(dtype.kind, 'no numbers')} (dtype {dtype})"
