"""One process at a time works on a file; the others wait and say so."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import TransferError
from schemas.marker import Marker
from zoo.transfer.patience import Patience
from zoo.transfer.remote import Progress


@contextmanager
def turn(target: Path, patience: Patience, progress: Progress) -> Iterator[None]:
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


def _acquire(marker: Marker, target: Path, patience: Patience, progress: Progress) -> None:
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
