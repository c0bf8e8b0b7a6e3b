"""Move keys of a YAML text with the lines that they stand on, so that the rest stays as it is.

Only keys in block style that have their lines to themselves are moved. The result is read again
and must mean what was asked for; otherwise nothing is changed.
"""

import copy
import re
from typing import Any

from schemas.base.diagnostics import Move, Path
from schemas.text.document import Document, Lines
from schemas.text.yaml_reader import read_yaml

_REFERENCE = re.compile(r"(^|[\s\[{,:-])[&*][\w-]")
_UNIT = 2


def moved_lines(document: Document, change: Move) -> str | None:
    """Return the text after a move, None if it cannot be done line by line."""
    if document.data is None:
        return None
    expected = copy.deepcopy(document.data)
    current: Document | None = document
    for old, new in change.pairs:
        value = _pop(expected, old)
        if not _put(expected, new, value) or current is None:
            return None
        current = _after_one_move(current, old, new)
    for path in change.drop:
        _pop(expected, path)
        current = None if current is None else _without(current, path)
    for path, value in change.add:
        if not _put(expected, path, value):
            return None
        current = None if current is None else _with(current, path, value)
    if current is None or current.data != expected:
        return None
    return current.lines_of.text


def _after_one_move(document: Document, old: Path, new: Path) -> Document | None:
    block = _block(document, old)
    if block is None:
        return None
    lines = document.lines_of.text.splitlines(keepends=True)
    first, last = block
    moved = lines[first:last]
    key = document.keys[old]
    if _REFERENCE.search("".join(moved)) or not moved[-1].endswith("\n"):
        return None
    moved[0] = moved[0].replace(document.lines_of.slice(key), str(new[-1]), 1)
    place = _place(document, new[:-1])
    if place is None:
        return None
    at, indent, missing = place
    end = "\r\n" if moved[0].endswith("\r\n") else "\n"
    head = [f"{' ' * (indent + _UNIT * level)}{name}:{end}" for level, name in enumerate(missing)]
    shift = indent + _UNIT * len(missing) - (key.col - 1)
    body = head + [_shifted(line, shift) for line in moved]
    if first < at < last:
        return None
    lines[first:last] = [] if at <= first else [""] * (last - first)
    lines[at:at] = body
    return _read("".join(lines), document.name)


def _without(document: Document, path: Path) -> Document | None:
    block = _block(document, path)
    if block is None:
        return None
    lines = document.lines_of.text.splitlines(keepends=True)
    del lines[block[0] : block[1]]
    return _read("".join(lines), document.name)


def _with(document: Document, path: Path, value: bool) -> Document | None:
    """Return the text with one more key, at the end of a section that is there."""
    place = _place(document, path[:-1])
    if place is None or place[2]:
        return None
    at, indent, _ = place
    lines = document.lines_of.text.splitlines(keepends=True)
    end = "\r\n" if lines[at - 1].endswith("\r\n") else "\n"
    lines.insert(at, f"{' ' * indent}{path[-1]}: {str(value).lower()}{end}")
    return _read("".join(lines), document.name)


def _block(document: Document, path: Path) -> tuple[int, int] | None:
    """Return the lines of a key and its value as a half-open range, None if it shares them."""
    key, value = document.keys.get(path), document.values.get(path)
    lines = document.lines
    if key is None or value is None or lines[key.line - 1][: key.col - 1].strip():
        return None
    is_list = lines[value.line - 1][value.col - 1 : value.col + 1] in ("- ", "-")
    last = key.line
    for number in range(key.line, len(lines)):
        text = lines[number]
        bare = text.strip()
        indent = len(text) - len(text.lstrip(" "))
        inside = indent > key.col - 1 or (is_list and indent == key.col - 1 and bare[:1] == "-")
        if bare and not inside:
            if bare.startswith("#"):
                continue
            break
        if bare:
            last = number + 1
    return key.line - 1, last


def _place(document: Document, section: Path) -> tuple[int, int, tuple[str | int, ...]] | None:
    """Return where a key of a section goes: before which line, how far in, and missing sections."""
    for length in range(len(section), -1, -1):
        holder = section[:length]
        inner = [path for path in document.keys if path[:-1] == holder]
        if not inner:
            if length and holder in document.keys:
                return None  # an empty or flow-style section
            continue
        if len({document.keys[path].line for path in inner}) < len(inner):
            return None  # flow style
        blocks = [_block(document, path) for path in inner]
        if any(block is None for block in blocks):
            return None
        end = max(block[1] for block in blocks if block is not None)
        return end, document.keys[inner[0]].col - 1, section[length:]
    return None


def _shifted(line: str, shift: int) -> str:
    if not line.strip():
        return line
    return " " * shift + line if shift >= 0 else line[-shift:]


def _read(text: str, name: str) -> Document | None:
    document = Document(name, Lines(text), is_yaml=True)
    data = read_yaml(document)
    if not isinstance(data, dict) or document.findings:
        return None
    document.data = data
    return document


def _pop(data: dict[str, Any], path: Path) -> Any:
    holder: Any = data
    for part in path[:-1]:
        holder = holder.get(part, {})
    return holder.pop(path[-1], None)


def _put(data: dict[str, Any], path: Path, value: Any) -> bool:
    holder: Any = data
    for part in path[:-1]:
        holder = holder.setdefault(part, {})
        if not isinstance(holder, dict):
            return False
    if path[-1] in holder:
        return False
    holder[path[-1]] = value
    return True
