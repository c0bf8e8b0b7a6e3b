"""Why a file cannot be read although it is there: in use, or a pointer to what it should be."""

import errno
from pathlib import Path

from schemas.special_files import special_kind

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
