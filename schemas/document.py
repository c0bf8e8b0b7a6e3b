"""A text as data, with the position of every key and value; JSON and YAML."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from schemas import json_faults
from schemas.diagnostics import Finding, Path, Span

YAML_SUFFIXES = (".yaml", ".yml")
JSON_SUFFIXES = (".json",)
_LARGEST = 200_000
"""Most values of a document; YAML references can multiply a small text beyond any memory."""
_LARGEST_INTEGER = 2**63


@dataclass(slots=True)
class Document:
    """What a text says and where it says it.

    Args:
        name: The file's name, for messages.
        lines: The text's lines.
        data: The top-level object, None if there is none.
        keys: Span of each key by path.
        values: Span of each value by path.
        findings: Faults of the text itself.
    """

    name: str
    lines: list[str]
    data: dict[str, Any] | None = None
    keys: dict[Path, Span] = field(default_factory=dict)
    values: dict[Path, Span] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class _Object(list[tuple[Any, Any]]):
    """The pairs of a JSON object, duplicates included."""


def read_document(text: str, name: str) -> Document:
    """Read a text as JSON, or as YAML if its name says so.

    Never raises for a bad text: `findings` say what is wrong, and `data` is None if nothing can
    be made of it.
    """
    document = Document(name, text.splitlines())
    if text.startswith("\ufeff"):
        hint = "save the file as UTF-8 without a byte order mark; deepmd-kit refuses it"
        document.findings.append(
            Finding("ZOO006", (), "the file begins with a byte order mark", hint, span=_START)
        )
        text = text[1:]
    if not text.strip():
        hint = "start from one of the examples"
        document.findings.append(Finding("ZOO002", (), "the file is empty", hint))
        return document
    is_yaml = name.lower().endswith(YAML_SUFFIXES)
    tree, node = _read_yaml(text, document) if is_yaml else _read_json(text, document)
    if tree is _NOTHING:
        return document
    try:
        data = _Walk(document).value(tree, node, ())
    except RecursionError:
        document.findings.append(Finding("ZOO001", (), "the text is nested too deeply"))
        return document
    except OverflowError:
        document.findings.append(Finding("ZOO001", (), "the references in the text are endless"))
        return document
    if not isinstance(data, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(data), "a number")
        message = f"the top level is {kind}, not an object"
        hint = "an input has the keys model, learning_rate, loss and training"
        document.findings.append(Finding("ZOO003", (), message, hint, span=_START))
        return document
    document.data = data
    return document


_START = Span(1, 1, 1, 2)
_NOTHING = object()


def _read_json(text: str, document: Document) -> tuple[Any, yaml.Node | None]:
    """Return the JSON value with objects as pairs, and YAML's view of the same text."""
    text, findings = json_faults.repaired(text)
    document.findings.extend(findings)
    try:
        tree = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        document.findings.append(json_faults.explain(text, error))
        return _NOTHING, None
    except (ValueError, RecursionError):
        message = "a number has too many digits, or the text is nested too deeply"
        document.findings.append(Finding("ZOO001", (), message))
        return _NOTHING, None
    return tree, _positions(text)


def _positions(text: str) -> yaml.Node | None:
    """Return YAML's view of a JSON text; JSON that is not YAML is levelled out first.

    Only positions are taken from it, so every character may be replaced by one as long.
    """
    levelled = re.sub(r"\\u[0-9a-fA-F]{4}", r"\\u0041", text)
    levelled = re.sub(r"[^\x20-\x7e\r\n]", lambda m: " " if m[0].isspace() else "?", levelled)
    try:
        return yaml.compose(levelled, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


def _read_yaml(text: str, document: Document) -> tuple[Any, yaml.Node | None]:
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        tree = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        span = None
        if mark is not None:
            span = Span(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2)
        message = f"invalid YAML: {error.problem or error.context}"
        document.findings.append(Finding("ZOO001", (), message, span=span))
        return _NOTHING, None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        message = f"invalid YAML: {str(error).splitlines()[0]}"
        document.findings.append(Finding("ZOO001", (), message))
        return _NOTHING, None
    return tree, node


class _Walk:
    """Goes through a value and YAML's view of it at once, noting positions and faults."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def value(self, tree: Any, node: yaml.Node | None, path: Path) -> Any:
        self.count += 1
        if self.count > _LARGEST:
            raise OverflowError
        if node is not None:
            self.document.values[path] = _span(node)
        if isinstance(tree, _Object):
            return self.pairs(tree, _pair_nodes(node, len(tree)), path)
        if isinstance(tree, dict):
            self.duplicates_of_yaml(node, path)
            return self.yaml_pairs(tree, node, path)
        if isinstance(tree, list):
            nodes = node.value if isinstance(node, yaml.SequenceNode) else []
            return [
                self.value(item, nodes[index] if index < len(nodes) else None, (*path, index))
                for index, item in enumerate(tree)
            ]
        if isinstance(tree, str):
            return self.text(tree, path)
        if isinstance(tree, int) and abs(tree) >= _LARGEST_INTEGER:
            message = "this number is too large"
            self.document.findings.append(Finding("ZOO005", path, message))
        if isinstance(tree, float) and not math.isfinite(tree):
            written = _text_of(self.document, path)
            message = f"`{written or tree}` is not a finite number"
            hint = "JSON has no such number; leave the key out or give a finite one"
            self.document.findings.append(Finding("ZOO005", path, message, hint))
        return tree

    def text(self, written: str, path: Path) -> str:
        """Return a text without what is no character: half a surrogate pair, or a NUL."""
        cleaned = written.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")
        if cleaned != written:
            message = "this text contains what is no character: half a surrogate pair, or a NUL"
            self.document.findings.append(Finding("ZOO001", path, message))
        return cleaned

    def pairs(
        self, tree: _Object, nodes: list[tuple[yaml.Node, yaml.Node]], path: Path
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for index, (written, item) in enumerate(tree):
            key = self.text(written, path)
            key_node, value_node = nodes[index] if nodes else (None, None)
            if key in result:
                self.duplicate(key, (*path, key), key_node)
            if key_node is not None:
                self.document.keys[(*path, key)] = _span(key_node)
            result[key] = self.value(item, value_node, (*path, key))
        return result

    def yaml_pairs(
        self, tree: dict[Any, Any], node: yaml.Node | None, path: Path
    ) -> dict[str, Any]:
        nodes = {
            key_node.value: (key_node, value_node)
            for key_node, value_node in (node.value if isinstance(node, yaml.MappingNode) else [])
            if isinstance(key_node, yaml.ScalarNode)
        }
        result: dict[str, Any] = {}
        for key, item in tree.items():
            name = self.text(key if isinstance(key, str) else json.dumps(key, default=str), path)
            key_node, value_node = nodes.get(name, (None, None))
            if key_node is not None:
                self.document.keys[(*path, name)] = _span(key_node)
            result[name] = self.value(item, value_node, (*path, name))
        return result

    def duplicates_of_yaml(self, node: yaml.Node | None, path: Path) -> None:
        seen: set[str] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            name = key_node.value
            if isinstance(name, str) and name in seen:
                self.duplicate(name, (*path, name), key_node)
            elif isinstance(name, str):
                seen.add(name)

    def duplicate(self, key: str, path: Path, key_node: yaml.Node | None) -> None:
        first = self.document.keys.get(path)
        where = f" (line {first.line})" if first else ""
        message = f"`{key}` appears twice; the first{where} is dropped silently"
        span = _span(key_node) if key_node is not None else None
        hint = "keep one of them"
        self.document.findings.append(Finding("ZOO004", path, message, hint, span=span))


def _pair_nodes(node: yaml.Node | None, count: int) -> list[tuple[yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode) and len(node.value) == count:
        return list(node.value)
    return []


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def _text_of(document: Document, path: Path) -> str | None:
    span = document.values.get(path)
    if span is None or span.line != span.end_line:
        return None
    return document.lines[span.line - 1][span.col - 1 : span.end_col - 1]
