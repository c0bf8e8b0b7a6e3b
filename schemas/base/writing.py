"""Files written atomically, output that survives a crash, and digests of files."""

import errno
import hashlib
import io
import os
import re
import secrets
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EBADF, EIO, ENXIO, EPIPE
from pathlib import Path
from typing import IO, Any, TextIO, cast

from schemas.base.errors import WriteError
from schemas.base.foreign_files import special_kind
from schemas.base.terminal import unguarded


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
        _sync_folder(target.parent)
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


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_GONE = {EPIPE, EIO, EBADF, ENXIO}
"""What the system says when a pipe has no reader, or a terminal is closed."""


class LastingStream:
    """A stream of text that drops what cannot be written.

    Where the reader has gone for good, nothing more is tried, so that the end of the program finds
    nothing left to write either. A full disk may have room again later.

    Args:
        stream: Where text goes; None drops all of it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        if self._stream is not None:
            with self._surviving(self._stream):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written, or drop it."""
        if self._stream is not None:
            with self._surviving(self._stream):
                self._stream.flush()

    def close(self) -> None:
        """Leave the stream open: loggers that took it for their own close it at the end."""

    @property
    def closed(self) -> bool:
        """Whether all that is written is dropped."""
        return self._stream is None or self._stream.closed

    def isatty(self) -> bool:
        """Return whether a person sees it."""
        return self._stream is not None and not self.closed and self._stream.isatty()

    @property
    def unguarded(self) -> "LastingStream":
        """The same in front of what is behind a guard (`schemas.base.terminal`)."""
        return LastingStream(None if self._stream is None else unguarded(self._stream))

    def __getattr__(self, name: str) -> Any:
        """Return everything else as it is."""
        return getattr(self._stream, name)

    @contextmanager
    def _surviving(self, stream: TextIO) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _GONE:
                drop_the_rest(stream)
        except ValueError:  # closed, by us or by the caller
            self._stream = None


def drop_the_rest(stream: TextIO) -> None:
    """Let a stream whose reader has gone lead nowhere, with all that it still holds."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


@contextmanager
def lasting_output() -> Iterator[None]:
    """Go on inside when nobody reads our output any more and when the terminal hangs up.

    What is printed inside is dropped from then on. SIGHUP is ignored, unless the caller has said
    what it does.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", LastingStream(stream)) for stream in before)
    ignores_hangup = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    )
    if ignores_hangup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        if ignores_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
