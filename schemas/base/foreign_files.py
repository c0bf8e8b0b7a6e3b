"""Files that must not or cannot be read: devices, pipes, LFS pointers, missing and other files."""

import errno
import os
import stat
from pathlib import Path

from schemas.base.errors import CheckpointError, ZooError

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


_LFS = b"version https://git-lfs"
_LOCKED = ("unable to lock file", "already open for write", "temporarily unavailable")


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is the text that Git LFS leaves in place of a large file."""
    if special_kind(path) is not None:
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(len(_LFS)) == _LFS
    except OSError:
        return False


def why_unreadable(path: Path, error: Exception | None = None) -> tuple[str, str] | None:
    """Return what hinders the reading of a file and what to do; None: something else.

    Args:
        path: The file.
        error: What the library that reads it said.
    """
    if is_lfs_pointer(path):
        return (
            f"{path} is a pointer of Git LFS, not the file itself",
            "fetch the content with `git lfs pull`",
        )
    if error is None:
        return None
    code = getattr(error, "errno", None)
    text = str(error).lower()
    if (code in (errno.EAGAIN, errno.EACCES) and "lock" in text) or any(s in text for s in _LOCKED):
        return (
            f"{path} is in use by another process, which has it open for writing",
            "wait until that has ended, or read a copy; the file itself is not at fault",
        )
    if isinstance(error, PermissionError):
        return f"{path} may not be read by this user", "ask its owner, or read a copy"
    return None


def missing_file(path: Path) -> CheckpointError:
    """Return the error for a path that leads nowhere, naming checkpoints that are near."""
    if path.is_symlink():
        return CheckpointError(
            f"{path} is a link to {path.readlink()}, which does not exist",
            hint="the checkpoint it pointed to was moved or deleted; name another one",
        )
    folder = path.parent
    near = sorted(item.name for item in folder.glob("*.pt"))[-5:] if folder.is_dir() else []
    hint = f"{folder} has: {', '.join(near)}" if near else "check the path"
    return CheckpointError(f"{path} does not exist", hint=hint)


GET_AGAIN = "the download or the copy failed; get the file again"
USE_CHECKPOINT = "use a .pt file that deepmd-kit or `zoo train` wrote"
_OTHER_FORMATS = (
    ((b"<!doctype", b"<html", b"<?xml", b"<head"), "a web page ({}), not a checkpoint", GET_AGAIN),
    ((_LFS,), "a pointer of Git LFS ({}), not the file itself", "fetch it with `git lfs pull`"),
    ((b"{", b"["), "a JSON text, not a checkpoint", USE_CHECKPOINT),
    (
        (b"\x89hdf",),
        "an HDF5 file (a .dp or .hlo model?), not a checkpoint",
        USE_CHECKPOINT,
    ),
    ((b"\x80",), "a pickle, perhaps a checkpoint of PyTorch before 1.6", USE_CHECKPOINT),
    ((b"",), "not a PyTorch checkpoint", USE_CHECKPOINT),
)
"""How other files begin (in lower case), what they are, and what to do."""


def other_format(name: str, size: int, beginning: bytes) -> CheckpointError:
    """Return the error that says what a file is instead of a checkpoint.

    Args:
        name: What messages call it.
        size: Its bytes in all.
        beginning: Its first few hundred bytes.
    """
    if not beginning:
        return CheckpointError(f"{name} is empty", hint=GET_AGAIN)
    text = beginning.lstrip().lower()
    what, hint = next(row[1:] for row in _OTHER_FORMATS if text.startswith(row[0]))
    return CheckpointError(f"{name} is {what.format(f'{size} bytes')}", hint=hint)
