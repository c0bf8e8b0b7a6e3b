"""A file from one of several sources: complete and right under its name, or not there at all."""

from collections.abc import Sequence
from pathlib import Path

from schemas.digest import file_sha256
from schemas.errors import TransferError
from zoo.transfer.client import check_url
from zoo.transfer.partial import Partial
from zoo.transfer.patience import PATIENT, Patience
from zoo.transfer.remote import Download, Progress, Remote
from zoo.transfer.session import Session
from zoo.transfer.silent import Silent
from zoo.transfer.turn import turn


def download(
    remotes: Sequence[Remote],
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    progress: Progress | None = None,
    patience: Patience = PATIENT,
) -> Download:
    """Fetch a file, going on with what an earlier attempt left.

    Sources are tried in order. One that stalls, breaks off or answers with an error that passes is
    asked again after a growing pause; where the hash is known, the next source goes on in the
    middle of the file meanwhile. One that answers with an error that stays, with a web page or with
    a Git LFS pointer is left out. A file that is complete but has another hash is fetched once more
    from one source alone, and never gets its name.

    Several processes that want the same target download it once: the others wait, say so, and find
    it there. How partial files survive crashes and file systems without locks:
    `zoo.transfer.partial`.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        target: Where it is to be. A file of another content there is replaced when the new one is
            complete; one with the right hash is left alone.
        sha256: That it must have, in lower-case hexadecimal; None where nobody knows it. Then only
            lengths and ETags tell whether the file is complete, and it comes from one source.
        size: Bytes that it must have, or None.
        progress: Who watches.
        patience: Waits and limits.

    Raises:
        TransferError: When no source delivers; says what each of them did. What arrived is kept for
            the next attempt.
        WrongContentError: When what arrived is another file than the hash or size says.
    """
    if not remotes:
        raise ValueError("a download needs at least one source")
    for remote in remotes:
        check_url(remote)
    watcher = progress or Silent()
    before = _state(target)
    if before is not None and sha256 is not None:
        there = _present(target, sha256)
        if there is not None:
            return there
    with turn(target, patience, watcher):
        now = _state(target)
        if now is not None and now != before:
            there = _present(target, sha256)
            if there is not None:
                return there
        partial = Partial.claim(target, sha256=sha256, size=size, patience=patience)
        try:
            return Session(remotes, partial, size, watcher, patience).run()
        finally:
            partial.let_go()
            watcher.finish()


def _state(target: Path) -> tuple[int, int, int] | None:
    try:
        found = target.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _present(target: Path, sha256: str | None) -> Download | None:
    """Return a file that is there with the right content; None: any, since it is new."""
    try:
        found, size = file_sha256(target), target.stat().st_size
    except IsADirectoryError as error:
        raise TransferError(
            f"{target} is a folder", hint="choose another name for the file"
        ) from error
    except OSError:
        return None
    if sha256 not in (None, found):
        return None
    return Download(path=target, sha256=found, size=size, received=0, source="this machine")
