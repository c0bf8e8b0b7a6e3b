"""Systems in HDF5 files: `file.h5#/group`, each file of the folder layout a data set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dpa2.data.store import Store, refuse_other_than_numbers
from schemas.base.errors import DataError
from schemas.base.foreign_files import why_unreadable

_MOST_BYTES = 64 * 2**20
_MOST_EXPANSION = 200
"""How many times its size the numbers of a compressed file may take; 64 MB in any case."""


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
        with _readable(self.name):
            return sorted(
                name
                for name, item in self._root().items()
                if name.startswith("set.") and isinstance(item, h5py.Group)
            )

    def has(self, name: str) -> bool:
        """Tell whether the group has a member."""
        with _readable(self.name):
            return name in self._root()

    def words(self, name: str) -> list[str]:
        """Read a data set of integers or byte strings as words."""
        with _readable(f"{self.name.rstrip('/')}/{name}"):
            values = np.asarray(self._member(name)[()]).reshape(-1)
        texts = (
            item.decode(errors="replace") if isinstance(item, bytes) else item for item in values
        )
        return [word for text in texts for word in str(text).split()]

    def shape(self, set_name: str, stem: str) -> tuple[int, ...] | None:
        """Return the shape of a data set; None if absent."""
        path = f"{set_name}/{stem}.npy"
        with _readable(self.where(set_name, stem)):
            if self._root().get(path, getlink=True) is None:
                return None
            item = self._member(path)
        refuse_other_than_numbers(item.dtype, self.where(set_name, stem))
        return tuple(item.shape)

    def rows(self, set_name: str, stem: str, rows: NDArray[np.int64] | None) -> NDArray[Any]:
        """Read rows; h5py wants them increasing and unique, so they are reordered afterwards."""
        with _readable(self.where(set_name, stem)):
            dataset = self._member(f"{set_name}/{stem}.npy")
            if rows is None:
                return np.asarray(dataset[()])
            unique, positions = np.unique(rows, return_inverse=True)
            return np.asarray(dataset[unique])[positions]

    @property
    def files(self) -> Sequence[Path]:
        """The one file."""
        return [self.path]

    def _member(self, name: str) -> Any:
        """Return a data set of the group that lies in this file and is no larger than it can be.

        Raises:
            DataError: It lies elsewhere, or claims far more numbers than the file can hold.
        """
        where, root = f"{self.name.rstrip('/')}/{name}", self._root()
        item = root[name] if _is_here(root, name) else None
        if item is None or getattr(item, "external", None) or getattr(item, "is_virtual", False):
            raise DataError(
                f"{where} lies in another file or place, to which it is a link",
                hint="copy the numbers into this file (h5copy, h5repack)",
            )
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            raise DataError(f"{where} is a group, a data set expected")
        if item.nbytes > _MOST_BYTES + _MOST_EXPANSION * self.path.stat().st_size:
            raise DataError(
                f"{where} claims {item.nbytes:,} bytes in a file of "
                f"{self.path.stat().st_size:,} bytes",
                hint="do not trust this file",
            )
        return item

    def _root(self) -> Any:
        file = open_file(self.path)
        item = file.get(self.group) if _is_here(file, self.group.strip("/")) else None
        if not isinstance(item, h5py.Group):
            raise DataError(
                f"{self.path} has no group {self.group}",
                hint="its systems are: " + (", ".join(find_groups(self.path)) or "none"),
            )
        return item


def _is_here(node: Any, path: str) -> bool:
    """Return whether each step of a path leads on within the file, not by a link elsewhere."""
    parts = [part for part in path.split("/") if part]
    return all(
        isinstance(node.get("/".join(parts[: count + 1]), getlink=True), h5py.HardLink)
        for count in range(len(parts))
    )


def find_groups(path: Path) -> list[str]:
    """Return the groups of a file that hold a `type.raw`, sorted."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and "type.raw" in item:
            found.append(f"/{name}")

    file = open_file(path)
    with _readable(str(path)):
        if "type.raw" in file:
            found.append("/")
        file.visititems(visit)
    return sorted(found)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn whatever damaged bytes lead to in the library into an error that says where."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, MemoryError) as error:
        raise DataError(
            f"{where} cannot be read: {error}",
            hint="the file is damaged, or compressed in a way that is not installed here",
        ) from error


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
def _opened(path: str, _mtime_ns: int, _size: int) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        unknown = f"{path} is not a readable HDF5 file", "it may be damaged or of another format"
        message, hint = why_unreadable(Path(path), error) or unknown
        raise DataError(message, hint=hint) from error
