"""Devices, pipes and sockets, which look like files: reading one may never end."""

import os
import stat
from pathlib import Path

from schemas.errors import ZooError

_LARGEST_TEXT = 256 * 2**20
_KINDS = (
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_kind(path: str | os.PathLike[str]) -> str | None:
    """Return what a path leads to in words, if that is neither a file nor a folder.

    Links are followed. None also where nothing is there or it cannot be looked at.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)


def read_text_file(path: str | os.PathLike[str], error: type[ZooError]) -> str:
    """Return the text of a file (UTF-8), which must be a plain one of at most 256 MB.

    Args:
        path: The file.
        error: What to raise.

    Raises:
        ZooError: It is a device, a pipe, a socket, or far too large.
        OSError: It cannot be read.
        UnicodeDecodeError: It is no text.
    """
    refuse_special(path, error)
    if Path(path).stat().st_size > _LARGEST_TEXT:
        raise error(
            f"{path} has {Path(path).stat().st_size:,} bytes, far more than such a text",
            hint="see whether it is the right file",
        )
    return Path(path).read_text(encoding="utf-8")


def refuse_special(path: str | os.PathLike[str], error: type[ZooError]) -> None:
    """Raise before something that is no file is read.

    Args:
        path: What is to be read.
        error: What to raise.

    Raises:
        ZooError: It is a device, a pipe or a socket.
    """
    kind = special_kind(path)
    if kind is not None:
        raise error(f"{path} is {kind}, not a file: it is not read", hint="give a plain file")
