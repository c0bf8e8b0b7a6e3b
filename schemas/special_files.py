"""Devices, pipes and sockets, which look like files: reading one may never end."""

import os
import stat
from pathlib import Path

from schemas.errors import ZooError

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
