"""Files that are read in pieces: on the disk now, over HTTP elsewhere."""

import io
import os
from pathlib import Path
from typing import Protocol, Self

from schemas.base.errors import CheckpointError
from schemas.base.foreign_files import refuse_special


class RandomAccess(Protocol):
    """What can be read from anywhere."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on: fewer than asked for only at the end."""


class LocalFile:
    """A file on the disk; a context manager.

    Raises:
        CheckpointError: It is a device, a pipe or a socket.
        OSError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        refuse_special(self._path, CheckpointError)
        self._stream = self._path.open("rb")

    @property
    def name(self) -> str:
        """The path as given."""
        return str(self._path)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return os.fstat(self._stream.fileno()).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on."""
        self._stream.seek(offset)
        return self._stream.read(length)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream(io.RawIOBase):
    """A random-access reader as a stream, for those who want to seek."""

    def __init__(self, source: RandomAccess) -> None:
        super().__init__()
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and return the new position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}
        position = start[whence] + offset
        if position < 0:
            raise ValueError("a position before the start")
        self._position = position
        return position

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        """Fill a buffer, and return how many bytes it got."""
        view = memoryview(buffer)
        content = self._source.read_at(self._position, len(view))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
