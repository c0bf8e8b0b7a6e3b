"""What reaches a terminal: texts of other people's files lose their power over it.

A name of a branch, a line of a card or a library's message may hold escape sequences, which move
the cursor, set the clipboard or hide what stands there, or marks that turn the direction of
writing around. `guard_streams` stands between everything that is printed and the terminal; what
this program draws itself (colours, bars) goes through `console` or `unguarded`.

`lasting_output` drops what nobody reads any more.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EBADF, EIO, ENXIO, EPIPE
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters but tab and line feed, marks of direction, invisible ones, half characters."""


def harmless(text: str) -> str:
    r"""Return a text in which control characters are written out: ESC as `\u001b`.

    Within a JSON text the result means the same.
    """
    return _UNSAFE.sub(_written_out, text) if _UNSAFE.search(text) else text


def one_line(text: str) -> str:
    r"""Return a text of another as one harmless line: line feeds are written `\n`, tabs `\t`."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def same_width(text: str) -> str:
    """Return a line of which each control character has become one visible character."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def _written_out(found: "re.Match[str]") -> str:
    number = ord(found[0])
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"


class GuardedStream:
    """A text stream in front of another, which gets only harmless text.

    No `io.TextIOBase`, which would close the stream behind when it is forgotten.

    Args:
        stream: Where the text goes; everything but writing is asked of it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Write a text, made harmless."""
        self.unguarded.write(harmless(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


@contextmanager
def guard_streams() -> Iterator[None]:
    """Put a guard before stdout and stderr, for the length of a block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", GuardedStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream behind a guard, for text in which only our own escape sequences are."""
    return cast("TextIO", getattr(stream, "unguarded", stream))


def console(stream: TextIO, **settings: Any) -> "Console":
    """Return a rich console in whose output only rich's own escape sequences are.

    No markup is interpreted: `[bold]` in a text is text.

    Args:
        stream: Where it writes.
        settings: Of `rich.console.Console`.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class HarmlessConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or not _UNSAFE.search(segment.text):
                    yield segment
                else:
                    yield Segment(harmless(segment.text), segment.style)

    return HarmlessConsole(
        file=unguarded(stream), highlight=False, markup=False, emoji=False, **settings
    )


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
        """The same in front of what is behind a guard."""
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


@contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Let a library log errors only, for the length of a block."""
    import logging

    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
