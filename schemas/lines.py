"""Offsets of a text as lines and columns, and back."""

import re
from bisect import bisect_right

from schemas.diagnostics import Span

BYTE_ORDER_MARK = "\ufeff"
_LINE_END = re.compile(r"\r\n|\n|\r")


class Lines:
    """The lines of a text.

    A byte order mark, which editors do not show, is column 0 of line 1.

    Args:
        text: The text; its lines end with any of the three usual line ends.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        first = int(text.startswith(BYTE_ORDER_MARK))
        ends = list(_LINE_END.finditer(text))
        self._starts = [first, *(match.end() for match in ends)]
        self._ends = [*(match.start() for match in ends), len(text)]

    def texts(self) -> list[str]:
        """Return the lines without their ends; no line for an empty text."""
        pairs = zip(self._starts, self._ends, strict=True)
        lines = [self.text[start:end] for start, end in pairs]
        return lines[:-1] if lines[-1] == "" else lines

    def span(self, start: int, end: int) -> Span:
        """Return the stretch between two offsets."""
        return Span(*self._place(start), *self._place(end))

    def offsets(self, span: Span) -> tuple[int, int]:
        """Return the offsets of a span's start and end."""
        return self._offset(span.line, span.col), self._offset(span.end_line, span.end_col)

    def slice(self, span: Span) -> str:
        """Return the text of a span."""
        start, end = self.offsets(span)
        return self.text[start:end]

    def _place(self, offset: int) -> tuple[int, int]:
        line = max(bisect_right(self._starts, offset), 1)
        return line, offset - self._starts[line - 1] + 1

    def _offset(self, line: int, col: int) -> int:
        if line > len(self._starts):
            return len(self.text)
        return max(0, min(self._starts[line - 1] + col - 1, len(self.text)))
