"""YAML with positions."""

import json
from typing import Any

import yaml

from schemas.base.diagnostics import Finding, Path, Related, Span
from schemas.text.document import BYTE_ORDER_MARK, NOTHING, Document, check_scalar

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
