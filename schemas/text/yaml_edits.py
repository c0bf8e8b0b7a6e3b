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


def edited_yaml(document: Document, move: Move) -> str | None:
    """Return the text after a move, None if it cannot be done line by line."""
    expected = copy.deepcopy(document.data or {})
    steps: list[tuple[Path | None, Path | None, str]] = [(old, new, "") for old, new in move.pairs]
    steps += [(path, None, "") for path in move.drop]
    steps += [(None, path, str(value).lower()) for path, value in move.add]
    for source, target in move.pairs:
        if not _put(expected, target, _pop(expected, source)):
            return None
    for path in move.drop:
        _pop(expected, path)
    if not all(_put(expected, path, value) for path, value in move.add):
        return None
    current: Document | None = document
    for old, new, value in steps:
        current = None if current is None else _after(current, old, new, value)
    return current.lines_of.text if current is not None and current.data == expected else None


def _after(document: Document, old: Path | None, new: Path | None, value: str) -> Document | None:
    """Return the text after a key moved; without an old place it is new, without a new one gone."""
    lines = document.lines_of.text.splitlines(keepends=True)
    first = last = indent = 0
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    moved = [f"{new[-1]}: {value}{end}"] if new else []
    if old is not None:
        block, key = _block(document, old), document.keys[old]
        if block is None:
            return None
        (first, last), indent = block, key.col - 1
        if new is not None:
            moved = lines[first:last]
            if _REFERENCE.search("".join(moved)) or not moved[-1].endswith("\n"):
                return None
            moved[0] = moved[0].replace(document.lines_of.slice(key), str(new[-1]), 1)
    place = _place(document, new[:-1]) if new is not None else (last, 0, ())
    if place is None or first < place[0] < last:
        return None
    at, column, missing = place
    body = [f"{' ' * (column + _UNIT * level)}{name}:{end}" for level, name in enumerate(missing)]
    shift = column + _UNIT * len(missing) - indent
    body += [_shifted(line, shift) for line in moved]
    kept = [*lines[:first], *lines[last:]]
    at -= last - first if at >= last else 0
    return _read("".join([*kept[:at], *body, *kept[at:]]), document.name)


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
        holder = holder[part] if isinstance(part, int) else holder.get(part, {})
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
