"""The hash by which a file is known."""

import errno
import hashlib
from pathlib import Path

from schemas.special_files import special_kind


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        OSError: It cannot be read, or is a device, a pipe or a socket.
    """
    kind = special_kind(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
