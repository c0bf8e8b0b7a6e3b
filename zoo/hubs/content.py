"""Whether a file is the one that its registry names."""

import hashlib
from pathlib import Path

from schemas.registry import ModelFile
from zoo.hubs.refusal import RefusedError
from zoo.transfer.remote import Download


def checked(path: Path, file: ModelFile, source: str, *, received: int = 0) -> Download:
    """Return what is known of a file whose content is right.

    Args:
        path: Where it is.
        file: What it should be.
        source: Where it comes from.
        received: Bytes that came over the network.

    Raises:
        RefusedError: When it is another file; says so if it is one that was replaced.
    """
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror or error}") from error
    refuse_another(file, sha256)
    return Download(path=path, sha256=sha256, size=size, received=received, source=source)


def refuse_another(file: ModelFile, sha256: str) -> None:
    """Raise RefusedError when a hash is not that of the file, or is one that was replaced."""
    refuse_superseded(file, sha256)
    if file.sha256 not in (None, sha256):
        raise RefusedError(f"it has another {file.name}: SHA-256 {sha256}, {file.sha256} expected")


def refuse_superseded(file: ModelFile, sha256: str) -> None:
    """Raise RefusedError when a hash is that of an earlier file, which was replaced."""
    for old in file.superseded:
        if old.sha256 == sha256:
            reason = old.reason.rstrip(".")
            raise RefusedError(f"it has a {file.name} that was replaced: {reason} ({sha256})")
