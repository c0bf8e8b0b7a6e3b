"""Colours for a terminal: on where they can be seen, off under NO_COLOR and in pipes.

The few escape sequences are written here, since importing rich would take longer than a check.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO

from schemas.diagnostics import Severity

Paint = Callable[[str], str]

_SEVERITY_CODES: Final[dict[Severity, str]] = {"error": "31", "warning": "33", "note": "36"}


@dataclass(frozen=True, slots=True)
class Colors:
    """Paints text, or leaves it as it is.

    Args:
        enabled: Whether to paint.
    """

    enabled: bool

    def bold(self, text: str) -> str:
        """Return the text in bold."""
        return self._painted("1", text)

    def dim(self, text: str) -> str:
        """Return the text in a faint colour."""
        return self._painted("2", text)

    def severity(self, severity: Severity) -> str:
        """Return the word in its colour, bold."""
        return self._painted(f"1;{_SEVERITY_CODES[severity]}", severity)

    def mark(self, severity: Severity) -> Paint:
        """Return what paints in the colour of a severity."""
        return lambda text: self._painted(_SEVERITY_CODES[severity], text)

    def added(self, text: str) -> str:
        """Return a line that a diff adds."""
        return self._painted("32", text)

    def removed(self, text: str) -> str:
        """Return a line that a diff removes."""
        return self._painted("31", text)

    def _painted(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled and text else text


PLAIN: Final = Colors(enabled=False)


def colors_of(stream: TextIO) -> Colors:
    """Return the colours for a stream (https://no-color.org; FORCE_COLOR turns them on)."""
    if os.environ.get("NO_COLOR"):
        return PLAIN
    if os.environ.get("FORCE_COLOR"):
        return Colors(enabled=True)
    return Colors(enabled=stream.isatty() and os.environ.get("TERM") != "dumb")
