"""The deepmd layout as texts and arrays per set, and the folder of `.npy` files that holds them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.base.errors import DataError
from schemas.base.foreign_files import read_text_file, why_unreadable

# A memory map keeps a file descriptor; data sets have thousands of files and processes about 1000.
_MAX_OPEN_MAPS = 256
_NO_NUMBERS = {
    "c": "complex numbers",
    "U": "text",
    "S": "text",
    "O": "pickled Python objects",
    "V": "records",
}


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

    @property
    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Files that hold the content, in a fixed order."""

    def where(self, set_name: str, stem: str) -> str:
        """Name an array in a message: `data/water/set.000/coord.npy`."""
        return f"{self.name.rstrip('/')}/{set_name}/{stem}.npy"


def refuse_other_than_numbers(dtype: np.dtype[Any], where: str) -> None:
    """Refuse an array that holds no real numbers.

    Raises:
        DataError: Says what it holds.
    """
    if dtype.kind not in "fiub":
        kind = _NO_NUMBERS.get(dtype.kind, "no numbers")
        raise DataError(
            f"{where} holds {kind} (dtype {dtype}), real numbers expected",
            hint="save it again as an array of float64",
        )


class NpyFolder(Store):
    """The deepmd layout in a folder; arrays are memory-mapped, so only what is used is read."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = str(path) if name is None else name

    def sets(self) -> list[str]:
        """Return the names of the set folders, sorted."""
        return sorted(entry.name for entry in self.path.glob("set.*") if entry.is_dir())

    def has(self, name: str) -> bool:
        """Tell whether a top-level file exists."""
        return (self.path / name).is_file()

    def words(self, name: str) -> list[str]:
        """Read a top-level text file as words."""
        _refuse_pointer(self.path / name)
        try:
            return read_text_file(self.path / name, DataError).split()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.name}/{name} is not a text file",
                hint=f"byte {error.start} is not UTF-8; the file may be damaged",
            ) from error

    def shape(self, set_name: str, stem: str) -> tuple[int, ...] | None:
        """Return the shape from the header of a `.npy` file; None if there is no such file."""
        path = self._file(set_name, stem)
        return _shape(path, self.where(set_name, stem)) if path.is_file() else None

    def rows(self, set_name: str, stem: str, rows: NDArray[np.int64] | None) -> NDArray[Any]:
        """Read rows through a memory map."""
        path = self._file(set_name, stem)
        status = path.stat()
        array = _mapped(str(path), status.st_mtime_ns, status.st_size)
        return np.array(array) if rows is None else np.asarray(array[rows])

    @property
    def files(self) -> Sequence[Path]:
        """The texts and all `.npy` files."""
        texts = [self.path / name for name in ("type.raw", "type_map.raw", "nopbc")]
        arrays = [file for name in self.sets() for file in sorted((self.path / name).glob("*.npy"))]
        return [file for file in texts if file.is_file()] + arrays

    def _file(self, set_name: str, stem: str) -> Path:
        return self.path / set_name / f"{stem}.npy"


# What damaged headers of arrays lead to; they are parsed as Python literals.
_BAD_HEADERS = (
    ValueError,
    EOFError,
    SyntaxError,
    TokenError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
)


def _refuse_pointer(path: Path) -> None:
    why = why_unreadable(path)
    if why is not None:
        raise DataError(why[0], hint=why[1])


@lru_cache(maxsize=_MAX_OPEN_MAPS)
def _mapped(path: str, _mtime_ns: int, _size: int) -> NDArray[Any]:
    """Open a memory map; time and size are part of the key so that a rewritten file is reopened."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _shape(path: Path, where: str) -> tuple[int, ...]:
    """Read the shape, and make sure that the file is complete and holds real numbers."""
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{where} is empty", hint="write the file again")
    formats = np.lib.format
    with path.open("rb") as file:
        try:
            first = formats.read_magic(file) == (1, 0)
            read = formats.read_array_header_1_0 if first else formats.read_array_header_2_0
            shape, _, dtype = read(file)
        except _BAD_HEADERS as error:
            _refuse_pointer(path)
            raise DataError(
                f"{where} is not a numpy array file",
                hint="it may be damaged, or text saved under the name .npy",
            ) from error
        offset = file.tell()
    refuse_other_than_numbers(dtype, where)
    if min(shape, default=0) < 0:
        raise DataError(f"{where} has the shape {shape}", hint="write the file again")
    expected = offset + math.prod(shape) * dtype.itemsize
    if size < expected:
        raise DataError(
            f"{where} is truncated: {size} bytes of {expected}",
            hint="copy or write the file again",
        )
    return tuple(shape)
