"""Partial files that another process can go on with.

Whoever holds the lock of a file `model.pt` (`zoo.transfer.download.file_lock`) writes into
`.model.pt.<key>.<token>.part`; `<key>` begins the expected hash, so that files of different content
never mix. Beside it lies `....part.json`: lines of JSON that say which hash is wanted, from where
the bytes come and, every 256 KiB, the SHA-256 of all bytes so far. A process that starts renames a
partial file to a token of its own, hashes it, and believes the bytes up to the last line that is
right: neither a kill nor a crash of the machine can make it believe others. The rename also takes
the file away from a writer that was only asleep; it looks before each write, and stops.

At the end the file is synced and renamed over the target. Where no hash is known, a partial file
is continued only from the same address, with If-Range and a strong validator.
"""

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from schemas.base.errors import TransferError
from schemas.base.writing import Marker, sync_folder
from zoo.transfer.remote import Progress, RetryPolicy

_EVERY = 256 << 10
_LEAST_SPARE, _MOST_SPARE = 1 << 20, 32 << 20
_OLD = 7 * 24 * 3600.0


class PartialFile:
    """The partial file of this process; made by `PartialFile.claim`.

    Args:
        target: The file it will become.
        path: Its own place, in the same folder.
        sha256: That the whole file must have; None where it is unknown.

    Attributes:
        length: Bytes that are here.
        size: Bytes of the whole file; None where it is unknown.
        source: Fingerprint of the address that contributed last; None: no one has.
        version: What that address says to tell versions apart; None where it said nothing usable.
    """

    def __init__(self, target: Path, path: Path, sha256: str | None) -> None:
        self.target, self.path, self.sha256 = target, path, sha256
        self._open()

    def _open(self) -> None:
        self.length = 0
        self.size: int | None = None
        self.source: str | None = None
        self.version: str | None = None
        self._digest = hashlib.sha256()
        self._noted = 0
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._state = state_of(self.path).open("w", encoding="utf-8", buffering=1)
        self._write({"sha256": self.sha256})

    @classmethod
    def claim(cls, target: Path, *, sha256: str | None, size: int | None) -> Self:
        """Return a partial file to go on with, or an empty one.

        The caller holds the lock of the target.
        """
        key = sha256[:8] if sha256 else "unknown"
        mine = target.with_name(f".{target.name}.{key}.{os.getpid()}-{secrets.token_hex(4)}.part")
        left = target.parent.glob(f".{glob.escape(target.name)}.{key}.*.part")
        for path in sorted(left, key=_length, reverse=True):
            state, digests = _read_state(state_of(path))
            same = state.get("sha256", "") == sha256
            if same and (size is None or state.get("size") in (None, size)):
                with suppress(OSError):
                    path.rename(mine)
                    found = cls(target, mine, sha256)
                    found._go_on(state, digests)
                    state_of(path).unlink(missing_ok=True)
                    return found
        return cls(target, mine, sha256)

    def note(self, *, source: str, version: str | None, size: int | None) -> None:
        """Write down whose bytes come next, and what the source says of the whole file."""
        if (source, version, size) != (self.source, self.version, self.size):
            self.source, self.version, self.size = source, version, size
            self._write({"source": source, "version": version, "size": size})

    def start_over(self) -> None:
        """Forget every byte and every source; what another process may have open is left to it."""
        self.discard()
        self._open()

    def append(self, data: bytes) -> None:
        """Add bytes at the end; they are the kernel's when this returns.

        Raises:
            TransferError: When the disk is full, or another process has taken the file over.
        """
        try:
            taken = not os.path.samestat(self.path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            taken = True
        if taken:
            raise self._taken_over()
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._file, view, self.length)
                self._digest.update(view[:written])
                self.length += written
                view = view[written:]
        except OSError as error:
            raise _not_written(self.target, error) from error
        if self.length - self._noted >= _EVERY:
            self._note_digest()

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

    def _taken_over(self) -> TransferError:
        return TransferError(
            f"another process has taken over the transfer of {self.target.name}",
            hint="give the command again: it waits for that process, or goes on",
        )

    def digest(self) -> str:
        """Return the SHA-256 of what is here."""
        return self._digest.hexdigest()

    def install(self) -> None:
        """Give the file its name, in one step and for good, and remove what is left of others.

        Raises:
            TransferError: When it cannot be synced, or cannot take its name.
        """
        try:
            os.fsync(self._file)
            self.path.replace(self.target)
        except FileNotFoundError as error:
            raise self._taken_over() from error
        except OSError as error:
            raise TransferError(
                f"{self.target} cannot take its name: {error.strerror or error}",
                hint="see whether a folder has this name",
            ) from error
        self._close()
        sync_folder(self.target.parent)
        for path in self.target.parent.glob(f".{glob.escape(self.target.name)}.*.part*"):
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove it."""
        self._close()
        remove(self.path)

    def let_go(self) -> None:
        """Leave it to the next process, or remove it when it is empty."""
        if self._file < 0:
            return
        if self.length == 0:
            self.discard()
            return
        with suppress(OSError):
            self._note_digest()
        self._close()

    def _go_on(self, state: dict[str, Any], digests: list[tuple[int, str]]) -> None:
        """Take what an earlier process left, up to the last byte that is proved."""
        running, position, length = hashlib.sha256(), 0, 0
        with self.path.open("rb") as stream:
            for until, expected in digests:
                while position < until and (piece := stream.read(min(_EVERY, until - position))):
                    running.update(piece)
                    position += len(piece)
                if position != until or running.hexdigest() != expected:
                    break
                length, self._digest = position, running.copy()
        os.ftruncate(self._file, length)
        self.length = length
        if length:
            source = str(state.get("source"))
            self.note(source=source, version=state.get("version"), size=state.get("size"))
            self._note_digest()

    def _note_digest(self) -> None:
        self._noted = self.length
        self._write({"length": self.length, "digest": self.digest()})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._state.write(json.dumps(line) + "\n")
        except OSError as error:
            raise _not_written(self.target, error) from error

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            with suppress(OSError):
                self._state.close()


def state_of(part: Path) -> Path:
    """Return where the state of a partial file lies."""
    return part.with_name(f"{part.name}.json")


def remove(part: Path) -> None:
    """Remove a partial file and its state."""
    part.unlink(missing_ok=True)
    state_of(part).unlink(missing_ok=True)


@contextmanager
def file_lock(target: Path, policy: RetryPolicy, progress: Progress) -> Iterator[None]:
    """Hold the lock of a file that is to be made; others wait for it and say so.

    A lock left by another machine is taken over after `policy.silence` without a touch, measured by
    the waiter's own clock, so machines need not agree on the time.

    Raises:
        TransferError: When the folder cannot be written.
    """
    marker = _lock_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _acquire(marker, target, policy, progress)
    except OSError as error:
        raise TransferError(
            f"{target.parent} cannot be written: {error.strerror or error}",
            hint="choose another folder, or make this one writable",
        ) from error
    with marker.kept(policy.heartbeat):
        yield


def _acquire(marker: Marker, target: Path, policy: RetryPolicy, progress: Progress) -> None:
    seen: int | None = None
    since: float | None = None
    while not marker.take():
        if since is None:
            progress.say(f"waiting for {marker.holder()}, which is fetching {target.name}")
        touched = marker.touched()
        if touched != seen or since is None:
            seen, since = touched, time.monotonic()
        elif touched is not None and time.monotonic() - since > policy.silence:
            progress.say(f"{marker.holder()} shows no sign of life; going on without it")
            marker.take_from_the_dead()
        time.sleep(policy.poll)


def _lock_of(target: Path) -> Marker:
    return Marker(target.with_name(f".{target.name}.lock"))


def is_abandoned(part: Path) -> bool:
    """Return whether nobody writes a partial file: its lock is free, or it is a week old."""
    name = part.name[1:].rsplit(".", 3)[0]
    marker = _lock_of(part.with_name(name))
    with suppress(OSError):
        if marker.take():
            marker.release()
            return True
        return time.time() - part.stat().st_mtime > _OLD
    return False


def _read_state(path: Path) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """Return what is known of a partial file, and its digests; torn lines end both."""
    state: dict[str, Any] = {}
    digests: list[tuple[int, str]] = []
    with suppress(OSError, ValueError, KeyError, TypeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            state |= json.loads(line)
            if "digest" in state:
                digests.append((int(state.pop("length")), str(state.pop("digest"))))
    return state, digests


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _not_written(target: Path, error: OSError) -> TransferError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TransferError(
            f"the disk of {target.parent} is full, or your share of it used up",
            hint="free some space and give the command again: it goes on where it stopped",
        )
    return TransferError(
        f"{target.name} cannot be written in {target.parent}: {error.strerror or error}",
        hint="give the command again: it goes on where it stopped",
    )
