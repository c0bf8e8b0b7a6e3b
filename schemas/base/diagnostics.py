"""Diagnostics: what is wrong with an input file, where, and what to write instead."""

from dataclasses import asdict, dataclass
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

    def document(self) -> dict[str, int]:
        """Return the span as it stands in JSON documents."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Related:
    """Another place that belongs to a diagnostic: "the other value", "shared here".

    What is nowhere in the text, such as a system in a folder, has no span.
    """

    label: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class Edit:
    """Text to put in the place of a stretch of text."""

    span: Span
    replacement: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that remove a fault.

    Args:
        title: What they do, as an imperative.
        edits: The edits, sorted by position; they do not overlap.
        safe: Whether they keep what the file means, so that no one needs to look at them.
    """

    title: str
    edits: tuple[Edit, ...]
    safe: bool = True

    def document(self) -> dict[str, Any]:
        """Return the fix as it stands in JSON documents."""
        edits = [asdict(edit) for edit in self.edits]
        return {"title": self.title, "safe": self.safe, "edits": edits}


@dataclass(frozen=True, slots=True)
class Remove:
    """A change: take the key at fault out of the file."""


@dataclass(frozen=True, slots=True)
class Move:
    """A change: put values elsewhere; sections are made as needed.

    Args:
        pairs: Old and new paths.
        drop: Keys to take out besides.
        add: New keys and their values: what was meant before without being written.
    """

    pairs: tuple[tuple[Path, Path], ...]
    drop: tuple[Path, ...] = ()
    add: tuple[tuple[Path, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A change: put another object in the place of the section that has the key at fault."""

    section: str
    """The object as JSON."""


@dataclass(frozen=True, slots=True)
class Group:
    """Findings that a person would call one fault; the first of them speaks for all.

    Args:
        name: What they have in common.
        within: How far that reaches: the same value, the same section or list, the whole file.
    """

    name: str
    within: Literal["value", "section", "file"] = "section"

    def key(self, path: Path) -> tuple[str, Path]:
        """Return what a finding at a path shares with the others of its group."""
        shared: dict[str, Path] = {"value": path, "section": path[:-1], "file": ()}
        return self.name, shared[self.within]


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
        fix: Text to put in the place of the marked text, or a change of the structure.
        safe: Whether the fix keeps what the file means beyond doubt.
        span: Where in the text, if the path does not say.
        related: Other places that belong to it.
        related_paths: Labels of such places, and their paths.
        group: Of which fault it may be a repetition.
        for_deepmd: Its severity for a user of deepmd-kit, where that is another.
    """

    code: str
    path: Path
    message: str
    hint: str | None = None
    severity: Severity = "error"
    at: Literal["key", "value"] = "value"
    fix: "str | Remove | Move | Rewrite | Fix | None" = None
    span: Span | None = None
    safe: bool = True
    related: tuple[Related, ...] = ()
    related_paths: tuple[tuple[str, Path], ...] = ()
    group: Group | None = None
    for_deepmd: Severity | None = None


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
        fix: Edits that remove the fault.
        related: Other places that belong to it.
        repeated: Paths of the other findings for which it speaks.
        for_deepmd: Its severity for a user of deepmd-kit, where that is another.
    """

    code: str
    severity: Severity
    message: str
    path: Path
    span: Span | None = None
    hint: str | None = None
    fix: Fix | None = None
    related: tuple[Related, ...] = ()
    repeated: tuple[Path, ...] = ()
    for_deepmd: Severity | None = None

    def document(self) -> dict[str, Any]:
        """Return the diagnostic as the JSON document of `zoo validate --json`.

        `related` is there only if some places are.
        """
        related = [
            {"message": place.label, "span": place.span.document() if place.span else None}
            for place in self.related
        ]
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "path": list(self.path),
            "span": None if self.span is None else self.span.document(),
            "hint": self.hint,
            "fix": None if self.fix is None else self.fix.document(),
        } | ({"related": related} if related else {})


def dotted(path: Path) -> str:
    """Return a path as people write it: `model.type_map[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
