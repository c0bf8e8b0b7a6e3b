"""Fixes as edits of the text: values replaced, keys renamed, moved and removed."""

import difflib
import json
from dataclasses import dataclass
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
from schemas.text.document import Document

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
