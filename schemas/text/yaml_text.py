"""YAML with positions, and keys of it moved with the lines that they stand on.

Only keys in block style that have their lines to themselves are moved; the rest stays as it is. The
result is read again and must mean what was asked for; otherwise nothing is changed.
"""

import copy
import json
import re
from typing import Any

import yaml

from schemas.base.diagnostics import Finding, Move, Path, Related, Span
from schemas.text.document import BYTE_ORDER_MARK, NOTHING, Document, Lines, check_scalar

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_REPEATED = 100_000


class RepeatedError(yaml.YAMLError):
    """References (`*name`) that stand for far more than is written, or for what they are in."""


def load_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text; Python objects in it are not understood.

    Raises:
        yaml.YAMLError: The text is damaged, asks for an object, or stands for far more than itself.
        RecursionError: It is nested too deeply.
    """
    check_references(text)
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - the C twin of SafeLoader


def check_references(text: str | bytes) -> None:
    """Refuse a text whose references multiply it, before anything is built of it.

    A few hundred bytes, each line of which names the one before ten times, stand for billions of
    values. References may add as many values as are written, and 100,000 at least.

    Raises:
        yaml.YAMLError: As `load_yaml`.
    """
    if (b"&" if isinstance(text, bytes) else "&") not in text:  # type: ignore[operator]
        return
    sizes: dict[str | None, int | None] = {}
    open_parts: list[tuple[str | None, int]] = []
    written = total = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)
            if size is None:
                raise RepeatedError(f"`*{event.anchor}` is within what it stands for: endless")
            total += size
            if total > written + _MOST_REPEATED:
                raise RepeatedError("the references in the text stand for far more than the text")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((event.anchor, total))
            if event.anchor is not None:
                sizes[event.anchor] = None
            written, total = written + 1, total + 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_parts.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            written, total = written + 1, total + 1
            if event.anchor is not None:
                sizes[event.anchor] = 1


_LARGEST = 200_000
"""Most values of a document; YAML references can multiply a small text beyond any memory."""


def read_yaml(document: Document) -> Any:
    """Return the value of a YAML text, `NOTHING` if nothing can be made of it."""
    text = document.lines_of.text.removeprefix(BYTE_ORDER_MARK)
    try:
        tree = load_yaml(text)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        return _Walk(document).value(tree, node, ())
    except yaml.MarkedYAMLError as error:
        document.findings.append(_explained(error))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        message = f"invalid YAML: {str(error).splitlines()[0]}"
        document.findings.append(Finding("ZOO001", (), message))
    except RecursionError:
        document.findings.append(Finding("ZOO001", (), "the text is nested too deeply"))
    except OverflowError:
        document.findings.append(Finding("ZOO001", (), "the references in the text are endless"))
    return NOTHING


def _explained(error: yaml.MarkedYAMLError) -> Finding:
    mark = error.problem_mark or error.context_mark
    span = None
    if mark is not None:
        span = Span(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2)
    problem = error.problem or error.context or ""
    hint = None
    if "cannot start any token" in problem:
        problem, hint = "a character that cannot begin a value", "YAML is indented with blanks"
    elif "mapping values are not allowed" in problem:
        problem, hint = "a colon is out of place here", "check the indentation, or quote the text"
    elif "could not find expected ':'" in problem:
        problem, hint = "a key without a colon", "write `key: value`"
    elif "did not find expected key" in problem or "block end" in problem:
        problem, hint = "the indentation does not fit the lines above", None
    return Finding("ZOO001", (), f"invalid YAML: {problem}", hint, span=span)


class _Walk:
    """Goes through a value and its nodes at once, noting positions and faults."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def value(self, tree: Any, node: yaml.Node | None, path: Path) -> Any:
        self.count += 1
        if self.count > _LARGEST:
            raise OverflowError
        if node is not None:
            self.document.values[path] = _span(node)
        if isinstance(tree, dict):
            return self.pairs(tree, node, path)
        if isinstance(tree, list):
            nodes = node.value if isinstance(node, yaml.SequenceNode) else []
            return [
                self.value(item, nodes[index] if index < len(nodes) else None, (*path, index))
                for index, item in enumerate(tree)
            ]
        return check_scalar(self.document, tree, path)

    def pairs(self, tree: dict[Any, Any], node: yaml.Node | None, path: Path) -> dict[str, Any]:
        nodes: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value if isinstance(node, yaml.MappingNode) else []:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in nodes:
                    first = nodes[key_node.value][0]
                    self.duplicate((*path, key_node.value), first, key_node)
                nodes[key_node.value] = (key_node, value_node)
        result: dict[str, Any] = {}
        for key, item in tree.items():
            written = key if isinstance(key, str) else json.dumps(key, default=str)
            name = str(check_scalar(self.document, written, path))
            key_node, value_node = nodes.get(name, (None, None))
            if key_node is not None:
                self.document.keys[(*path, name)] = _span(key_node)
            result[name] = self.value(item, value_node, (*path, name))
        return result

    def duplicate(self, path: Path, first: yaml.Node, second: yaml.Node) -> None:
        before = _span(first)
        message = f"`{path[-1]}` appears twice; the first (line {before.line}) is dropped silently"
        related = (Related("the first one", before),)
        finding = Finding(
            "ZOO004", path, message, "keep one of them", span=_span(second), related=related
        )
        self.document.findings.append(finding)


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


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
