"""What reaches a terminal: texts of other people's files lose their power over it.

A name of a branch, a line of a card or a library's message may hold escape sequences, which move
the cursor, set the clipboard or hide what stands there, or marks that turn the direction of
writing around. `guard_streams` stands between everything that is printed and the terminal; what
this program draws itself (colours, bars) goes through `console` or `unguarded`.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
