"""Printing that outlives its reader: what nobody can read any more is dropped."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EBADF, EIO, ENXIO, EPIPE
from typing import Any, TextIO, cast

from schemas.terminal import unguarded

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
        """The same in front of what is behind a guard (`schemas.terminal`)."""
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
