"""A text as data with the position of every key and value."""

import math
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from schemas.base.diagnostics import Finding, Fix, Path, Span

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


NOTHING = object()
"""The value of a text of which nothing can be made."""
_LARGEST_INTEGER = 2**63
_TOO_LARGE = "this number is too large: whole numbers go from -9.2e18 to 9.2e18, in 64 bits"


@dataclass(slots=True)
class Document:
    """What a text says and where it says it.

    Args:
        name: The file's name, for messages.
        lines_of: The text and its lines.
        data: The top-level object, None if there is none.
        keys: Span of each key by path.
        values: Span of each value by path.
        findings: Faults of the text itself.
        is_yaml: Whether the text is YAML.
        fixes: Fixes of changes already worked out (`schemas.check.input_file`).
    """

    name: str
    lines_of: Lines
    data: dict[str, Any] | None = None
    keys: dict[Path, Span] = field(default_factory=dict)
    values: dict[Path, Span] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    is_yaml: bool = False
    fixes: dict[object, Fix | None] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """The text's lines."""
        return self.lines_of.texts()

    def written(self, path: Path) -> str | None:
        """Return the text of the value at a path, if it is known where it is."""
        span = self.values.get(path)
        return None if span is None else self.lines_of.slice(span)


def check_scalar(document: Document, value: Any, path: Path) -> Any:
    """Return a value without what is no character; note what cannot be used.

    Texts lose halves of surrogate pairs and NULs; numbers must be finite and not huge.
    """
    if isinstance(value, str):
        cleaned = value.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")
        if cleaned != value:
            message = "this text contains what is no character: half a surrogate pair, or a NUL"
            document.findings.append(Finding("ZOO001", path, message))
        return cleaned
    if isinstance(value, int) and abs(value) >= _LARGEST_INTEGER:
        document.findings.append(Finding("ZOO005", path, _TOO_LARGE))
    if isinstance(value, float) and not math.isfinite(value):
        written = document.written(path) or str(value)
        shown = written if len(written) <= 40 else f"{written[:37]}..."
        message = f"`{shown}` is not a finite number"
        hint = "JSON has no such number; leave the key out or give a finite one"
        document.findings.append(Finding("ZOO005", path, message, hint))
    return value
