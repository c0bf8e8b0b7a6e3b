"""From a finding's change to edits of the text: rename, replace, remove, move."""

import difflib
import json

from schemas.diagnostics import (
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
from schemas.document_model import Document
from schemas.raw_json import parse_raw


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
    from schemas.yaml_moves import moved_lines

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
