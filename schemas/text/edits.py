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


@dataclass(slots=True)
class Member:
    """A key with its value.

    Args:
        lead: The blanks before the key.
        key: The key as written, with its quotes.
        middle: The colon and the blanks around it.
        value: An object, or the text of any other value.
    """

    lead: str
    key: str
    middle: str
    value: "RawObject | str"

    def text(self) -> str:
        """Return the member as written."""
        inner = self.value if isinstance(self.value, str) else self.value.text()
        return f"{self.lead}{self.key}{self.middle}{inner}"


@dataclass(slots=True)
class RawObject:
    """An object; `tail` are the blanks before its closing bracket."""

    members: dict[str, Member]
    tail: str

    def text(self) -> str:
        """Return the object as written."""
        return "{" + ",".join(member.text() for member in self.members.values()) + self.tail + "}"

    def take(self, path: Path) -> Member | None:
        """Remove the member at a path and return it; None if there is none."""
        holder = self.object_at(path[:-1])
        return None if holder is None else holder.members.pop(str(path[-1]), None)

    def object_at(self, path: Path) -> "RawObject | None":
        """Return the object at a path; None if there is none."""
        value: RawObject | str = self
        for part in path:
            member = value.members.get(str(part)) if isinstance(value, RawObject) else None
            if member is None:
                return None
            value = member.value
        return value if isinstance(value, RawObject) else None

    def put(self, path: Path, value: "RawObject | str") -> bool:
        """Write a value at a path, in the style of its neighbours; sections are made as needed.

        Returns:
            Whether it was written; it is not if the key is there, or if a parent is no object.
        """
        first = next(iter(self.members.values()), None)
        lead = first.lead if first is not None else "\n"
        return _put(self, path, value, lead, lead.rpartition("\n")[2] or _INDENT)


def _put(target: RawObject, path: Path, value: RawObject | str, lead: str, unit: str) -> bool:
    """Do what `RawObject.put` says; `lead` serves an empty object, `unit` is one indentation."""
    key = str(path[0])
    last = next(reversed(target.members.values()), None)
    if last is not None:
        lead = last.lead if "\n" in last.lead else " "
    elif "\n" in lead and "\n" not in target.tail:
        target.tail = lead.removesuffix(unit)
    middle = ": " if last is None else last.middle
    if len(path) == 1 and key in target.members:
        return False
    if key not in target.members:
        new = value if len(path) == 1 else RawObject({}, "")
        target.members[key] = Member(lead, f'"{key}"', middle, new)
    if len(path) == 1:
        return True
    inner = target.members[key].value
    if isinstance(inner, str):
        return False
    below = target.members[key].lead
    return _put(inner, path[1:], value, below + unit if "\n" in below else "", unit)


def parse_raw(document: Document) -> RawObject:
    """Return the tree of a JSON text in which there are no faults."""
    return _object(document, document.data or {}, ())


def _object(document: Document, data: dict[str, Any], path: Path) -> RawObject:
    lines = document.lines_of
    start, end = lines.offsets(document.values[path])
    at = start + 1
    members: dict[str, Member] = {}
    for key, value in data.items():
        below = (*path, key)
        key_start, key_end = lines.offsets(document.keys[below])
        value_start, value_end = lines.offsets(document.values[below])
        inner: RawObject | str = lines.text[value_start:value_end]
        if isinstance(value, dict):
            inner = _object(document, value, below)
        gap = lines.text[at:key_start]
        lead = gap.partition(",")[2] if "," in gap else gap
        middle = lines.text[key_end:value_start]
        members[key] = Member(lead, lines.text[key_start:key_end], middle, inner)
        at = value_end
    return RawObject(members, lines.text[at : end - 1])


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
    rebased = _in_the_text(document, change, path)
    if rebased is None:
        return None
    change = rebased
    key = (change, finding.safe)
    if key not in document.fixes:
        document.fixes[key] = _restructured(document, change, safe=finding.safe)
    return document.fixes[key]


def _rewritten(document: Document, change: Rewrite, path: Path, *, safe: bool) -> Fix | None:
    """Return the fix that replaces a section, indented like the line on which it begins."""
    span, key = document.values.get(path), document.keys.get(path)
    if span is None or key is None or document.is_yaml:
        return None
    line = document.lines[key.line - 1]
    blanks = line[: len(line) - len(line.lstrip())]
    unit = blanks[: len(blanks) // max(len(path), 1)] or "  "
    shown = json.dumps(json.loads(change.section), indent=unit, ensure_ascii=False)
    text = shown.replace("\n", "\n" + blanks) if span.line != span.end_line else change.section
    return Fix(f"rewrite `{dotted(path)}` in the present layout", (Edit(span, text),), safe)


def _in_the_text(document: Document, change: Remove | Move, path: Path) -> Remove | Move | None:
    """Return a change with the paths of the text, where a branch of several was checked alone.

    The part of a branch may stand in `shared_dict`: what moves within it moves there.
    """
    if isinstance(change, Remove):
        return Remove((path,)) if path in document.keys else None
    if all(old in document.keys for old, _ in change.pairs):
        return change
    pairs = []
    for old, new in change.pairs:
        section = old[:-1]
        if new[: len(section)] != section:
            return None
        inside = len(section)
        pairs.append(((*path[:-1], *old[inside:]), (*path[:-1], *new[inside:])))
    if not all(old in document.keys for old, _ in pairs):
        return None
    inside = len(change.pairs[0][0]) - 1
    add = tuple(((*path[:-1], *new[inside:]), value) for new, value in change.add)
    return Move(tuple(pairs), tuple((*path[:-1], item[-1]) for item in change.drop), add)


def _replaced(document: Document, finding: Finding, path: Path, change: str) -> Fix | None:
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


def _restructured(document: Document, change: Remove | Move, *, safe: bool) -> Fix | None:
    text = document.lines_of.text
    clean = not any(item.code in ("ZOO001", "ZOO004", "ZOO006") for item in document.findings)
    if not clean or document.data is None:
        return None
    if isinstance(change, Remove):
        title = "remove " + _names(change.paths)
        new = _without_lines(document, change) if document.is_yaml else _without(document, change)
    else:
        title = "move " + _names([new for _, new in change.pairs], "to ")
        new = _moved_in_yaml(document, change) if document.is_yaml else _moved(document, change)
    if new is None or new == text:
        return None
    return Fix(title, _difference(document, new), safe)


def _names(paths: tuple[Path, ...] | list[Path], word: str = "") -> str:
    shown = f"`{dotted(paths[0])}`" if paths else "it"
    return f"{word}{shown}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _without(document: Document, change: Remove) -> str | None:
    raw = parse_raw(document)
    taken = [raw.take(path) for path in change.paths]
    if not any(taken):
        return None
    return _around(document, raw.text())


def _moved(document: Document, change: Move) -> str | None:
    raw = parse_raw(document)
    for old, new in change.pairs:
        member = raw.take(old)
        if member is None or not raw.put(new, member.value):
            return None
    for path in change.drop:
        raw.take(path)
    for path, value in change.add:
        if not raw.put(path, json.dumps(value)):
            return None
    return _around(document, raw.text())


def _moved_in_yaml(document: Document, change: Move) -> str | None:
    from schemas.text.yaml_edits import moved_lines

    return moved_lines(document, change)


def _around(document: Document, inner: str) -> str:
    """Return the text with its top-level object replaced."""
    text = document.lines_of.text
    start, end = document.lines_of.offsets(document.values[()])
    return text[:start] + inner + text[end:]


def _without_lines(document: Document, change: Remove) -> str | None:
    """Return a YAML text without keys that have a line of their own."""
    lines = document.lines_of.text.splitlines(keepends=True)
    for path in sorted(change.paths, key=lambda path: document.keys[path], reverse=True):
        key, value = document.keys[path], document.values.get(path)
        parent = document.values.get(path[:-1])
        alone = not lines[key.line - 1][: key.col - 1].strip()
        if value is None or not alone or value.end_line != key.line or parent is None:
            return None
        if parent.line == key.line and parent.end_line <= key.line + 1:
            return None  # the only key of its section
        del lines[key.line - 1]
    return "".join(lines)


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
