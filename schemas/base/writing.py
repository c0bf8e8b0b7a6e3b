"""Files written atomically, markers that lock them, and digests of files."""

import errno
import hashlib
import io
import os
import re
import secrets
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO

from schemas.base.errors import WriteError
from schemas.base.foreign_files import special_kind


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


_MOST_LINKS = 40
_TEMPORARY = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}\.tmp")


class _RecordingFile(io.FileIO):
    """A file that remembers why it could not be written.

    Writers in C++ (`torch.save`) make another exception of it.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def atomic_write(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces `path` when the block ends without an exception.

    The bytes go to a hidden file of the same folder, are flushed to the disk, and take the name in
    one step. A reader sees the old file or the new one; after a crash the old one is still there.
    A symbolic link stays one: the file it leads to is replaced, and keeps its permissions.

    Raises:
        WriteError: When the disk is full, the folder cannot be written, or `path` is no place for a
            file (see `destination`).
    """
    target = destination(path)
    temporary = _temporary_name(target)
    raw: _RecordingFile | None = None
    try:
        raw = _RecordingFile(temporary, "x")
        with io.BufferedWriter(raw) as stream:
            if target.exists():
                os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except Exception as error:
        cause = error if isinstance(error, OSError) else raw.failure if raw is not None else None
        if cause is None:
            raise
        raise WriteError(
            f"{target} cannot be written: {cause.strerror or cause}",
            hint="check that the folder exists, is writable and has space left; what was there "
            "before is untouched",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def destination(path: Path | str, *, folder: bool = False) -> Path:
    """Return where a new file really goes: what `path` leads to, link after link.

    Args:
        path: As the user names it; nothing need be there.
        folder: Whether a folder is to be written, not a file.

    Raises:
        WriteError: It is a device, a pipe, a socket or an open stream (`/dev/stdout`), it is a
            folder where a file is wanted, or its links lead in a circle.
    """
    place = Path(path)
    for _ in range(_MOST_LINKS):
        if not place.is_symlink():
            break
        if place.parent.resolve().is_relative_to("/proc"):
            raise WriteError(
                f"{path} is an open stream, not a file: it cannot be replaced",
                hint="name a file; results for other programs are on stdout under --json",
            )
        place = place.parent / place.readlink()
    else:
        raise WriteError(
            f"{path} cannot be written: its links lead in a circle", hint="name another file"
        )
    kind = special_kind(place)
    if kind is not None:
        raise WriteError(f"{path} is {kind}: it is not replaced by a file", hint="name a file")
    if not folder and place.is_dir():
        raise WriteError(
            f"{path} cannot be written: it is a folder", hint="name a file, perhaps one in it"
        )
    return place


def write_text(path: Path | str, text: str) -> None:
    """Replace a text file atomically (UTF-8)."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


def append_text(stream: TextIO, text: str) -> None:
    """Append to an open text file, at once.

    Raises:
        WriteError: When the disk is full.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise WriteError(
            f"{stream.name} cannot be written: {error.strerror or error}",
            hint="check that its disk has space left",
        ) from error


def write_json(path: Path | str, document: Any, *, indent: int = 4) -> None:
    """Replace a JSON file atomically."""
    import json

    write_text(path, json.dumps(document, indent=indent, ensure_ascii=False))


def replace_symlink(link: Path | str, target: str) -> None:
    """Point a symbolic link at `target` (relative to the link's folder) in one step.

    Raises:
        WriteError: When the disk is full or the folder cannot be written.
    """
    path = Path(link)
    temporary = _temporary_name(path)
    try:
        temporary.symlink_to(target)
        temporary.replace(path)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files in `folder` whose writers were killed; those of living ones stay."""
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _is_alive(int(match.group(1))):
            path.unlink(missing_ok=True)


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Marker:
    """A lock that one process holds: a file created exclusively.

    NFS, Lustre and GPFS do honour that where flock is switched off or local to a node. The file
    names its holder's process and machine: on the same machine a marker whose process is gone is
    taken over at once. The holder touches it every few seconds, so that others can see from another
    machine whether it lives.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        from filelock import SoftFileLock

        self.path = path
        self._lock = SoftFileLock(path, thread_local=False)

    def take(self) -> bool:
        """Return whether it is ours now.

        Raises:
            OSError: When the folder cannot be written.
        """
        try:
            self._lock.acquire(timeout=0)
        except TimeoutError:
            return False
        return True

    def take_from_the_dead(self) -> None:
        """Remove it, for a holder on another machine that gives no sign of life any more."""
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    @contextmanager
    def kept(self, heartbeat: float) -> Iterator[None]:
        """Touch it every `heartbeat` seconds, and give it back in the end."""
        done = threading.Event()
        keeper = threading.Thread(target=self._keep_alive, args=(done, heartbeat), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()
            self.release()

    def _keep_alive(self, done: threading.Event, every: float) -> None:
        while not done.wait(every):
            with suppress(OSError):  # taken over
                os.utime(self.path)

    def touched(self) -> int | None:
        """Return when it was last touched, ns by the clock of its disk; None: it is not there."""
        try:
            with self.path.open("rb") as stream:  # NFS looks at the file itself when it is opened
                return os.fstat(stream.fileno()).st_mtime_ns
        except OSError:
            return None

    def holder(self) -> str:
        """Return the words for who holds it."""
        process, machine = self._record()
        return f"process {process} on {machine}" if process else "another process"

    def is_of_this_machine(self) -> bool:
        """Return whether it says that its holder runs here."""
        return self._record()[1] == socket.gethostname()

    def _record(self) -> tuple[str, str]:
        """Return the process and the machine that the file names, a line each."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split()
        except OSError:
            return "", ""
        return (lines[0], lines[1]) if len(lines) >= 2 and lines[0].isdigit() else ("", "")
