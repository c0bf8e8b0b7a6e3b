"""One process at a time works on a file; the others wait and say so."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLock, Timeout

from schemas.errors import TransferError
from zoo.transfer.patience import Patience
from zoo.transfer.remote import Progress


@contextmanager
def turn(target: Path, patience: Patience, progress: Progress) -> Iterator[None]:
    """Hold the lock of a file that is to be made.

    The lock is a marker file created exclusively, which NFS, Lustre and GPFS do honour where flock
    is switched off or local to a node. It names its holder's process and machine: on the same
    machine a marker whose process is gone is taken over at once. The holder touches the marker
    every few seconds; one left by another machine is taken over after `patience.silence` without a
    touch, measured by the waiter's own clock, so machines need not agree on the time.

    Nothing relies on the lock for correctness. Should two processes ever hold it, each still writes
    a partial file of its own (`zoo.transfer.partial`): the price is a second transfer.

    Raises:
        TransferError: When the folder cannot be written.
    """
    marker = target.with_name(f".{target.name}.lock")
    lock = SoftFileLock(marker, thread_local=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, marker, target, patience, progress)
    except OSError as error:
        raise TransferError(
            f"{target.parent} cannot be written: {error.strerror or error}",
            hint="choose another folder, or make this one writable",
        ) from error
    done = threading.Event()
    keeper = threading.Thread(
        target=_keep_alive, args=(marker, done, patience.heartbeat), daemon=True
    )
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        lock.release()


def _acquire(
    lock: SoftFileLock, marker: Path, target: Path, patience: Patience, progress: Progress
) -> None:
    told = False
    seen: int | None = None
    since = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            pass
        else:
            return
        if not told:
            progress.say(f"waiting for {_holder(marker)}, which is fetching {target.name}")
            told = True
        touched = _touched(marker)
        if touched != seen:
            seen, since = touched, time.monotonic()
        elif touched is not None and time.monotonic() - since > patience.silence:
            progress.say(f"{_holder(marker)} shows no sign of life; going on without it")
            marker.unlink(missing_ok=True)
        time.sleep(patience.poll)


def _keep_alive(marker: Path, done: threading.Event, every: float) -> None:
    while not done.wait(every):
        with suppress(OSError):  # taken over: harmless, see `turn`
            os.utime(marker)


def _touched(marker: Path) -> int | None:
    try:
        return marker.stat().st_mtime_ns
    except OSError:
        return None


def _holder(marker: Path) -> str:
    """Return the words for who holds a lock; its file says process and machine, a line each."""
    try:
        lines = marker.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        lines = []
    if len(lines) >= 2 and lines[0].isdigit():
        return f"process {lines[0]} on {lines[1]}"
    return "another process"
