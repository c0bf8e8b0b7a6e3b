"""Diagnostics: what is wrong with an input file, where, and what to write instead."""

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

Path = tuple[str | int, ...]
"""Keys and indices that lead to a value, such as ("model", "type_map", 0)."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of text; lines and columns count from 1, the end column is one past the last."""

    line: int
    col: int
    end_line: int
    end_col: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, not yet placed in the text.

    Args:
        code: Stable code, a key of `CODES`.
        path: Where in the data.
        message: One short sentence without a full stop.
        hint: What to do, in the user's words.
        severity: `error`, `warning` or `note`.
        at: Whether the key or the value is at fault.
        fix: Text to put in the place of the marked text.
        span: Where in the text, if the path does not say.
    """

    code: str
    path: Path
    message: str
    hint: str | None = None
    severity: Severity = "error"
    at: Literal["key", "value"] = "value"
    fix: str | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fault of an input file.

    Args:
        code: Stable code, a key of `CODES`.
        severity: `error`, `warning` or `note`.
        message: One short sentence without a full stop.
        path: Keys and indices as written in the file.
        span: Where in the text; None if it is nowhere in it (an override, a missing file).
        hint: What to do, in the user's words.
        fix: Text to put in the place of the marked text.
    """

    code: str
    severity: Severity
    message: str
    path: Path
    span: Span | None = None
    hint: str | None = None
    fix: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the diagnostic as the JSON document of `zoo validate --json`."""
        span = self.span
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "path": list(self.path),
            "span": None
            if span is None
            else {
                "line": span.line,
                "col": span.col,
                "end_line": span.end_line,
                "end_col": span.end_col,
            },
            "hint": self.hint,
            "fix": self.fix,
        }


def dotted(path: Path) -> str:
    """Return a path as people write it: `model.type_map[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


CODES = {
    "ZOO001": "the text is not valid JSON or YAML",
    "ZOO002": "the file is empty",
    "ZOO003": "the top level is not an object",
    "ZOO004": "a key appears twice",
    "ZOO005": "a number is not finite",
    "ZOO006": "the file begins with a byte order mark",
    "ZOO007": "the suffix of the file is not one that deepmd-kit reads",
    "ZOO008": "an override cannot be applied",
    "ZOO009": "the file is not UTF-8 text",
    "ZOO101": "a required key is missing",
    "ZOO102": "a key is unknown",
    "ZOO103": "a value is of the wrong type",
    "ZOO104": "a number is outside its range",
    "ZOO105": "a value is not one of the choices",
    "ZOO106": "a key is given twice, under two of its names",
    "ZOO107": "a value is malformed",
    "ZOO108": "this engine does not run models of this kind",
    "ZOO109": "the input is for multi-task training",
    "ZOO110": "a key is in the place of an earlier version",
    "ZOO111": "a key has no effect",
    "ZOO112": "a comment looks like a key",
}
"""What each code of a syntax or schema fault means; the rules add theirs (`schemas.rules`)."""
