"""Download of a file from one of several sources: complete and right, or not there at all."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schemas.base.errors import TransferError
from schemas.base.file_lock import Marker
from schemas.base.writing import file_sha256
from zoo.transfer.client import check_url
from zoo.transfer.partial import Partial
from zoo.transfer.remote import PATIENT, Download, Progress, Remote, RetryPolicy, Silent
from zoo.transfer.session import Session


@contextmanager
def file_lock(target: Path, patience: RetryPolicy, progress: Progress) -> Iterator[None]:
    """Hold the lock of a file that is to be made.

    A marker left by another machine is taken over after `patience.silence` without a touch,
    measured by the waiter's own clock, so machines need not agree on the time.

    Nothing relies on the lock for correctness. Should two processes ever hold it, each still writes
    a partial file of its own (`zoo.transfer.partial`): the price is a second transfer.

    Raises:
        TransferError: When the folder cannot be written.
    """
    marker = Marker(target.with_name(f".{target.name}.lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _acquire(marker, target, patience, progress)
    except OSError as error:
        raise TransferError(
            f"{target.parent} cannot be written: {error.strerror or error}",
            hint="choose another folder, or make this one writable",
        ) from error
    with marker.kept(patience.heartbeat):
        yield


def _acquire(marker: Marker, target: Path, patience: RetryPolicy, progress: Progress) -> None:
    told = False
    seen: int | None = None
    since = time.monotonic()
    while not marker.take():
        if not told:
            progress.say(f"waiting for {marker.holder()}, which is fetching {target.name}")
            told = True
        touched = marker.touched()
        if touched != seen:
            seen, since = touched, time.monotonic()
        elif touched is not None and time.monotonic() - since > patience.silence:
            progress.say(f"{marker.holder()} shows no sign of life; going on without it")
            marker.take_from_the_dead()
        time.sleep(patience.poll)


def download(
    remotes: Sequence[Remote],
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    progress: Progress | None = None,
    patience: RetryPolicy = PATIENT,
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
    with file_lock(target, patience, watcher):
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
