"""Systems in HDF5 files: `file.h5#/group`, each file of the folder layout a data set."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dpa2.data.store import Store, describe_bad_dtype
from schemas.errors import DataError
from schemas.unreadable import why_unreadable

SUFFIXES = (".h5", ".hdf5")


class Hdf5Group(Store):
    """The deepmd layout in a group of an HDF5 file.

    Args:
        path: The file.
        group: Group inside the file, `/` being the file itself.
    """

    def __init__(self, path: Path, group: str) -> None:
        self.path = path
        self.group = "/" + group.strip("/")
        self.name = f"{path}#{self.group}"

    def sets(self) -> list[str]:
        """Return the names of the set groups, sorted."""
        return sorted(
            name
            for name, item in self._root().items()
            if name.startswith("set.") and isinstance(item, h5py.Group)
        )

    def has(self, name: str) -> bool:
        """Tell whether the group has a member."""
        return name in self._root()

    def words(self, name: str) -> list[str]:
        """Read a data set of integers or byte strings as words."""
        values = np.asarray(self._root()[name][()]).reshape(-1)
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in values]
        return [word for text in texts for word in text.split()]

    def shape(self, set_name: str, stem: str) -> tuple[int, ...] | None:
        """Return the shape of a data set; None if absent."""
        item = self._root().get(f"{set_name}/{stem}.npy")
        if item is None:
            return None
        if not isinstance(item, h5py.Dataset):
            raise DataError(f"{self.where(set_name, stem)} is a group, a data set expected")
        fault = describe_bad_dtype(item.dtype)
        if fault:
            raise DataError(
                f"{self.where(set_name, stem)} holds {fault}, real numbers expected",
                hint="save it again as an array of float64",
            )
        return tuple(item.shape)

    def rows(self, set_name: str, stem: str, rows: NDArray[np.int64] | None) -> NDArray[Any]:
        """Read rows; h5py wants them increasing and unique, so they are reordered afterwards."""
        dataset = self._root()[f"{set_name}/{stem}.npy"]
        if rows is None:
            return np.asarray(dataset[()])
        unique, positions = np.unique(rows, return_inverse=True)
        return np.asarray(dataset[unique])[positions]

    def where(self, set_name: str, stem: str) -> str:
        """Name a data set by file, group, set and array."""
        return f"{self.name.rstrip('/')}/{set_name}/{stem}.npy"

    @property
    def files(self) -> Sequence[Path]:
        """The one file."""
        return [self.path]

    def _root(self) -> Any:
        file = open_file(self.path)
        item = file.get(self.group)
        if not isinstance(item, h5py.Group):
            raise DataError(
                f"{self.path} has no group {self.group}",
                hint="its systems are: " + (", ".join(find_groups(self.path)) or "none"),
            )
        return item


def find_groups(path: Path) -> list[str]:
    """Return the groups of a file that hold a `type.raw`, sorted."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and "type.raw" in item:
            found.append(f"/{name}")

    file = open_file(path)
    if "type.raw" in file:
        found.append("/")
    file.visititems(visit)
    return sorted(found)


def open_file(path: Path) -> Any:
    """Open a file for reading; a file stays open until it changes or many others were opened.

    Raises:
        DataError: If it is missing, in use by another process, or no HDF5 file.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}", hint="check the path before `#`")
    status = path.stat()
    return _opened(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _opened(path: str, mtime_ns: int, size: int) -> Any:
    del mtime_ns, size
    try:
        return h5py.File(path, "r")
    except OSError as error:
        unknown = f"{path} is not a readable HDF5 file", "it may be damaged or of another format"
        message, hint = why_unreadable(Path(path), error) or unknown
        raise DataError(message, hint=hint) from error
