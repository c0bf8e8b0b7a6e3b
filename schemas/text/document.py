"""A text as data with the position of every key and value, and fixes as edits of it."""

import difflib
import json
import math
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from schemas.base.diagnostics import (
    Edit,
    Finding,
    Fix,
    Move,
    Path,
    Related,
    Remove,
    Rewrite,
    Span,
    dotted,
)

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


_INDENT = "  "


def fix_of(document: Document, finding: Finding, path: Path, span: Span | None) -> Fix | None:
    """Return the fix of a finding as edits of the text, None if there is none.

    Args:
        document: The text.
        finding: The finding.
        path: Where it is in the text, keys as written.
        span: The text that is marked.
    """
    change = finding.fix
    if change is None or isinstance(change, Fix):
        return change
    if span is None:
        return None
    if isinstance(change, str):
        return _replaced(document, finding, path, change)
    if isinstance(change, Rewrite):
        return _rewritten(document, change, path[:-1], safe=finding.safe)
    if isinstance(change, Remove):
        move = Move((), (path,)) if path in document.keys else None
    else:
        move = _in_the_text(document, change, path)
    if move is None:
        return None
    key = (move, finding.safe)
    if key not in document.fixes:
        document.fixes[key] = _restructured(document, move, safe=finding.safe)
    return document.fixes[key]


def _replaced(document: Document, finding: Finding, path: Path, change: str) -> Fix | None:
    """Return the fix that writes another value, or renames a key."""
    if finding.at == "value":
        span = document.values.get(path)
        if span is None:
            return None
        return Fix(f"write {change}", (Edit(span, change),), finding.safe)
    span = document.keys.get(path)
    if span is None or (*path[:-1], change) in document.keys:
        return None
    quote = document.lines_of.slice(span)[:1]
    written = f"{quote}{change}{quote}" if quote in ("'", '"') else change
    return Fix(f"rename it to `{change}`", (Edit(span, written),), finding.safe)


def _rewritten(document: Document, change: Rewrite, path: Path, *, safe: bool) -> Fix | None:
    """Return the fix that replaces a section, indented like the line on which it begins."""
    span, key = document.values.get(path), document.keys.get(path)
    if span is None or key is None or document.is_yaml:
        return None
    line = document.lines[key.line - 1]
    blanks = line[: len(line) - len(line.lstrip())]
    unit = blanks[: len(blanks) // max(len(path), 1)] or _INDENT
    shown = json.dumps(json.loads(change.section), indent=unit, ensure_ascii=False)
    text = shown.replace("\n", "\n" + blanks) if span.line != span.end_line else change.section
    return Fix(f"rewrite `{dotted(path)}` in the present layout", (Edit(span, text),), safe)


def _in_the_text(document: Document, change: Move, path: Path) -> Move | None:
    """Return a move with the paths of the text, where a branch of several was checked alone.

    The part of a branch may stand in `shared_dict`: what moves within it moves there.
    """
    if all(old in document.keys for old, _ in change.pairs):
        return change
    section = change.pairs[0][0][:-1]
    depth = len(section)
    if any(place[:depth] != section for pair in change.pairs for place in pair):
        return None

    def here(place: Path) -> Path:
        return (*path[:-1], *place[depth:])

    pairs = tuple((here(old), here(new)) for old, new in change.pairs)
    if not all(old in document.keys for old, _ in pairs):
        return None
    add = tuple((here(new), value) for new, value in change.add)
    return Move(pairs, tuple(here(place) for place in change.drop), add)


def _restructured(document: Document, move: Move, *, safe: bool) -> Fix | None:
    """Return the fix that moves and removes keys; the rest of the text stays as it is."""
    faults = {item.code for item in document.findings}
    if faults & {"ZOO001", "ZOO004", "ZOO006"} or document.data is None:
        return None
    if document.is_yaml:
        from schemas.text.yaml_text import edited_yaml

        new = edited_yaml(document, move)
    else:
        new = _edited_json(document, move)
    if new is None or new == document.lines_of.text:
        return None
    word, places = (
        ("move to", [new for _, new in move.pairs]) if move.pairs else ("remove", move.drop)
    )
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return Fix(f"{word} `{dotted(places[0])}`{more}", _difference(document, new), safe)


def _edited_json(document: Document, move: Move) -> str | None:
    """Return a JSON text after a move, None if a place is taken or there is nothing to move."""
    root = _parsed(document, document.data or {}, ())
    for old, new in move.pairs:
        member = root.take(old)
        if member is None or not root.put(new, member.value):
            return None
    for path in move.drop:
        root.take(path)
    if not all(root.put(path, json.dumps(value)) for path, value in move.add):
        return None
    text = document.lines_of.text
    start, end = document.lines_of.offsets(document.values[()])
    return text[:start] + root.text() + text[end:]


@dataclass(slots=True)
class _Member:
    """A key of a JSON object with its value, and the blanks and the colon around them."""

    lead: str
    key: str
    middle: str
    value: "_Object | str"

    def text(self) -> str:
        """Return the member as written."""
        inner = self.value if isinstance(self.value, str) else self.value.text()
        return f"{self.lead}{self.key}{self.middle}{inner}"


@dataclass(slots=True)
class _Object:
    """A JSON object with every blank; `tail` are those before its closing bracket."""

    members: dict[str, _Member]
    tail: str

    def text(self) -> str:
        """Return the object as written."""
        return "{" + ",".join(member.text() for member in self.members.values()) + self.tail + "}"

    def take(self, path: Path) -> _Member | None:
        """Remove the member at a path and return it; None if there is none."""
        holder: _Object | str = self
        for part in path[:-1]:
            member = holder.members.get(str(part)) if isinstance(holder, _Object) else None
            holder = "" if member is None else member.value
        return holder.members.pop(str(path[-1]), None) if isinstance(holder, _Object) else None

    def put(self, path: Path, value: "_Object | str") -> bool:
        """Write a value at a path, in the style of its neighbours; sections are made as needed.

        Returns:
            Whether it was written; it is not if the key is there, or if a parent is no object.
        """
        first = next(iter(self.members.values()), None)
        lead = first.lead if first is not None else "\n"
        return self._put(path, value, lead, lead.rpartition("\n")[2] or _INDENT)

    def _put(self, path: Path, value: "_Object | str", lead: str, unit: str) -> bool:
        """Do what `put` says; `lead` serves an empty object, `unit` is one indentation."""
        key, *rest = path
        last = next(reversed(self.members.values()), None)
        if last is not None:
            lead = last.lead if "\n" in last.lead else " "
        elif "\n" in lead and "\n" not in self.tail:
            self.tail = lead.removesuffix(unit)
        new = _Member(lead, f'"{key}"', last.middle if last else ": ", _Object({}, ""))
        member = self.members.setdefault(str(key), new)
        if not rest:
            member.value = value
            return member is new
        below = member.lead + unit if "\n" in member.lead else ""
        inner = member.value
        return isinstance(inner, _Object) and inner._put(tuple(rest), value, below, unit)  # noqa: SLF001


def _parsed(document: Document, data: dict[str, Any], path: Path) -> _Object:
    """Return the object at a path of a JSON text in which there are no faults."""
    lines = document.lines_of
    start, end = lines.offsets(document.values[path])
    at = start + 1
    members: dict[str, _Member] = {}
    for key, value in data.items():
        below = (*path, key)
        key_start, key_end = lines.offsets(document.keys[below])
        value_start, value_end = lines.offsets(document.values[below])
        inner: _Object | str = lines.text[value_start:value_end]
        if isinstance(value, dict):
            inner = _parsed(document, value, below)
        lead = lines.text[at:key_start].rpartition(",")[2]
        middle = lines.text[key_end:value_start]
        members[key] = _Member(lead, lines.text[key_start:key_end], middle, inner)
        at = value_end
    return _Object(members, lines.text[at : end - 1])


def _difference(document: Document, new: str) -> tuple[Edit, ...]:
    """Return edits of whole lines, made as short as they can be, that lead to a new text."""
    old = document.lines_of.text
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    starts = [0]
    for line in before:
        starts.append(starts[-1] + len(line))
    edits = []
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for kind, i, j, k, m in blocks:
        if kind == "equal":
            continue
        start, end, replacement = starts[i], starts[j], "".join(after[k:m])
        while start < end and replacement and old[start] == replacement[0]:
            start, replacement = start + 1, replacement[1:]
        while start < end and replacement and old[end - 1] == replacement[-1]:
            end, replacement = end - 1, replacement[:-1]
        edits.append(Edit(document.lines_of.span(start, end), replacement))
    return tuple(edits)


def related_places(document: Document, finding: Finding) -> tuple[Related, ...]:
    """Return the other places of a finding that are in the text."""
    named = (
        Related(label, span)
        for label, path in finding.related_paths
        if (span := document.keys.get(path) or document.values.get(path)) is not None
    )
    return (*finding.related, *named)
