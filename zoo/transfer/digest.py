"""The hash of a file that is still being written."""

import hashlib
import os
import threading
import time
from collections.abc import Callable

from zoo.transfer.patience import Patience

# Small enough for the cache of a core, large enough that Python's own time does not count.
_PIECE = 256 << 10
_STEP = 4 << 20


class FollowingDigest:
    """Hashes a growing file in a thread that reads back what was written, from the first byte.

    What is hashed is what the file system returns, not what the network brought; the reading
    overlaps with the transfer, so little is left to do at its end. The thread also syncs the file
    from time to time and reports how far that went.

    Args:
        descriptor: Open for reading; stays open until `finish` or `abandon` has returned.
        begin: Bytes that are there already.
        patience: How often to sync.
        on_sync: Called in the thread with the number of bytes that are on the disk for sure.
    """

    def __init__(
        self, descriptor: int, begin: int, patience: Patience, on_sync: Callable[[int], None]
    ) -> None:
        self._descriptor = descriptor
        self._written = begin
        self._patience = patience
        self._on_sync = on_sync
        self._digest = hashlib.sha256()
        self._buffer = memoryview(bytearray(_PIECE))
        self._change = threading.Condition()
        self._announced = begin
        self._complete = False
        self._abandoned = False
        self._error: BaseException | None = None
        self._synced = begin
        self._last_sync = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def advance(self, written: int) -> None:
        """Say how many bytes the file has now."""
        if written - self._announced >= _STEP:
            with self._change:
                self._announced = written
                self._change.notify()

    def finish(self, written: int) -> str:
        """Return the SHA-256 of the whole file, synced to the disk.

        Raises:
            OSError: When reading back or syncing fails.
        """
        with self._change:
            self._announced = written
            self._complete = True
            self._change.notify()
        self._thread.join()
        if self._error is not None:
            raise self._error
        os.fsync(self._descriptor)
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Stop without a result."""
        with self._change:
            self._abandoned = True
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        # The writer gives positions of its own, so the offset of the descriptor is
        # free for reading.
        position = 0
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while True:
                with self._change:
                    while (
                        position >= self._announced and not self._complete and not self._abandoned
                    ):
                        self._change.wait()
                    until = self._announced
                    last = self._complete
                    if self._abandoned:
                        return
                position = self._hash(position, until)
                if last:
                    return
                self._sync(position)
        except OSError as error:
            self._error = error

    def _hash(self, position: int, until: int) -> int:
        while position < until and not self._abandoned:
            count = self._read(min(_PIECE, until - position))
            if not count:
                raise OSError(f"the partial file is shorter than the {until} bytes written to it")
            self._digest.update(self._buffer[:count])
            position += count
        return position

    def _read(self, most: int) -> int:
        """Read the next bytes into the buffer; one buffer for all, for new pages cost time."""
        return os.readv(self._descriptor, [self._buffer[:most]])

    def _sync(self, position: int) -> None:
        now = time.monotonic()
        due = (
            position - self._synced >= self._patience.sync_bytes
            or now - self._last_sync >= self._patience.sync_seconds
        )
        if due and position > self._synced and not self._abandoned:
            os.fsync(self._descriptor)
            self._synced, self._last_sync = position, now
            self._on_sync(position)
