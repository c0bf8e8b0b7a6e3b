"""Whether a file is the one that its registry names."""

from pathlib import Path

from schemas.digest import file_sha256
from schemas.registry import ModelFile
from zoo.hubs.refusal import RefusedError
from zoo.transfer.remote import Download


def checked(
    path: Path, file: ModelFile, source: str, *, received: int = 0, sha256: str | None = None
) -> Download:
    """Return what is known of a file whose content is right.

    Args:
        path: Where it is.
        file: What it should be.
        source: Where it comes from.
        received: Bytes that came over the network.
        sha256: Of what is there; None: it is computed.

    Raises:
        RefusedError: When it is another file; says so if it is one that was replaced.
    """
    found = sha256 or sha256_of(path)
    refuse_another(file, found)
    return Download(path, found, path.stat().st_size, received=received, source=source)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        RefusedError: When it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror or error}") from error


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
