"""The hash of a file that is still being written."""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from schemas.base.errors import TransferError, WriteError
from zoo.transfer.remote import RetryPolicy
from zoo.transfer.resume_state import ResumeState

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
        self, descriptor: int, begin: int, patience: RetryPolicy, on_sync: Callable[[int], None]
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


_LEAST_SPARE, _MOST_SPARE = 1 << 20, 32 << 20
_OLD = 7 * 24 * 3600.0


class Partial:
    """The partial file of this process; made by `Partial.claim`.

    Args:
        target: The file it will become.
        path: Its own place, in the same folder.
        journal: What is known of it; written already.
        patience: How often to sync.
    """

    def __init__(
        self, target: Path, path: Path, journal: ResumeState, patience: RetryPolicy
    ) -> None:
        self.target = target
        self.path = path
        self.journal = journal
        self._patience = patience
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.length = os.fstat(self._descriptor).st_size
        self._digest: FollowingDigest | None = None
        self._journal_lock = threading.Lock()

    @classmethod
    def claim(
        cls, target: Path, *, sha256: str | None, size: int | None, patience: RetryPolicy
    ) -> Self:
        """Return a partial file to go on with, or an empty one.

        The caller holds the file's turn (`zoo.transfer.download`).
        """
        key = sha256[:8] if sha256 else "unknown"
        mine = target.with_name(f".{target.name}.{key}.{os.getpid()}-{secrets.token_hex(4)}.part")
        for path in _by_length(leftovers(target, key)):
            found = ResumeState.read(journal_of(path))
            if found is None or found.sha256 != sha256:
                continue
            if size is not None and found.size not in (None, size):
                continue
            if _take(path, mine, found):
                journal = ResumeState.read(journal_of(mine)) or found.claimed()
                return cls(target, mine, journal, patience)
        journal = ResumeState(sha256=sha256, size=size)
        journal.write(journal_of(mine))
        return cls(target, mine, journal, patience)

    def note(
        self, *, source: str | None = None, validator: str | None = None, size: int | None = None
    ) -> None:
        """Write down whose bytes come next, and what the source says of the whole file."""
        with self._journal_lock:
            sources = self.journal.sources
            if source is not None and source not in sources[-1:]:
                sources = (*(known for known in sources if known != source), source)
            self._write(replace(self.journal, sources=sources, validator=validator, size=size))

    def start_over(self) -> None:
        """Forget every byte and every source."""
        self._stop_digest()
        os.ftruncate(self._descriptor, 0)
        self.length = 0
        with self._journal_lock:
            self._write(ResumeState(sha256=self.journal.sha256, size=None))

    def append(self, data: bytes) -> None:
        """Add bytes at the end; they are the kernel's when this returns.

        Raises:
            TransferError: When the disk is full.
        """
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, self.length)
                self.length += written
                view = view[written:]
        except OSError as error:
            raise _no_space(self.target, error) from error
        if self._digest is None:
            self._digest = FollowingDigest(
                self._descriptor, self.length, self._patience, self._synced
            )
        self._digest.advance(self.length)

    def check_space(self, size: int) -> None:
        """Refuse a transfer for which the disk has no room.

        Raises:
            TransferError: When the rest of `size` bytes and a little more are not free.
        """
        needed = max(0, size - self.length) + min(_MOST_SPARE, max(_LEAST_SPARE, size // 20))
        try:
            free = shutil.disk_usage(self.target.parent).free
        except OSError:
            return
        if free < needed:
            raise TransferError(
                f"{self.target.parent} has {free / 1e6:.0f} MB free, and {self.target.name} needs "
                f"{needed / 1e6:.0f} MB more",
                hint="free some space (`zoo cache prune`), or choose another folder",
            )

    def digest(self) -> str:
        """Return the SHA-256 of what is on the disk.

        Raises:
            TransferError: When it cannot be read back.
        """
        if self._digest is None:
            self._digest = FollowingDigest(
                self._descriptor, self.length, self._patience, self._synced
            )
        try:
            return self._digest.finish(self.length)
        except OSError as error:
            raise _no_space(self.target, error) from error
        finally:
            self._digest = None

    def install(self) -> None:
        """Give the file its name, in one step and for good, and remove what is left of it."""
        os.fsync(self._descriptor)
        try:
            self.path.replace(self.target)
        except OSError as error:
            raise TransferError(
                f"{self.target} cannot take its name: {error.strerror or error}",
                hint="see whether a folder has this name",
            ) from error
        _sync_folder(self.target.parent)
        self._close()
        journal_of(self.path).unlink(missing_ok=True)
        discard_abandoned(self.target)

    def discard(self) -> None:
        """Remove it."""
        self._close()
        self.path.unlink(missing_ok=True)
        journal_of(self.path).unlink(missing_ok=True)

    def let_go(self) -> None:
        """Leave it to the next process, or remove it when it is empty."""
        if self._descriptor < 0:
            return
        if self.length == 0:
            self.discard()
            return
        self._stop_digest()
        with suppress(OSError, WriteError):
            os.fsync(self._descriptor)
            self._write(replace(self.journal, synced=self.length, owner=None))
        self._close()

    def _synced(self, position: int) -> None:
        # A journal that stays behind costs bandwidth after a crash, nothing else.
        with suppress(WriteError), self._journal_lock:
            self._write(replace(self.journal, synced=position))

    def _write(self, journal: ResumeState) -> None:
        journal.write(journal_of(self.path))
        self.journal = journal

    def _stop_digest(self) -> None:
        if self._digest is not None:
            self._digest.abandon()
            self._digest = None

    def _close(self) -> None:
        self._stop_digest()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def journal_of(part: Path) -> Path:
    """Return where the journal of a partial file lies."""
    return part.with_name(f"{part.name}.json")


def leftovers(target: Path, key: str = "*") -> list[Path]:
    """Return the partial files of a target, other processes' included."""
    pattern = f".{glob.escape(target.name)}.{key}.*.part"
    return [path for path in target.parent.glob(pattern) if path.is_file()]


def discard_abandoned(target: Path) -> None:
    """Remove partial files of a target that nobody can be writing any more, and lone journals."""
    for path in leftovers(target):
        if is_abandoned(path):
            journal_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.part.json"):
        if not path.with_name(path.name.removesuffix(".json")).exists() and is_abandoned(path):
            path.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Return whether the writer of a partial file (or of a lone journal) has ended.

    Where that cannot be known, a week without a change counts as an end.
    """
    found = ResumeState.read(path if path.suffix == ".json" else journal_of(path))
    if found is not None and (found.owner is None or found.owner.certainly_gone()):
        return True
    try:
        return time.time() - path.stat().st_mtime > _OLD
    except OSError:
        return False


def _take(path: Path, mine: Path, found: ResumeState) -> bool:
    """Make the bytes of a partial file ours; False when another process was faster."""
    owner = found.owner
    free = owner is None or owner.certainly_gone()
    trusted = owner is not None and owner.same_start()
    try:
        found.claimed().write(journal_of(mine))
        if free:
            path.rename(mine)
            journal_of(path).unlink(missing_ok=True)
        else:
            # The copy is not on the disk yet, whatever was true of the original.
            replace(found.claimed(), synced=0).write(journal_of(mine))
            shutil.copyfile(path, mine)
        if not trusted and mine.stat().st_size > found.synced:
            os.truncate(mine, found.synced)
    except (OSError, WriteError):
        with suppress(OSError):
            mine.unlink(missing_ok=True)
            journal_of(mine).unlink(missing_ok=True)
        return False
    return True


def _by_length(paths: list[Path]) -> list[Path]:
    """Return them, the longest first."""
    sizes = {}
    for path in paths:
        with suppress(OSError):
            sizes[path] = path.stat().st_size
    return sorted(sizes, key=lambda path: -sizes[path])


def _no_space(target: Path, error: OSError) -> TransferError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TransferError(
            f"the disk of {target.parent} is full, or your share of it used up",
            hint="free some space and give the command again: it goes on where it stopped",
        )
    return TransferError(
        f"{target.name} cannot be written in {target.parent}: {error.strerror or error}",
        hint="give the command again: it goes on where it stopped",
    )


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
