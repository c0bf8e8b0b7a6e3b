"""Read YAML, with the position of every key and value."""

import json
from typing import Any

import yaml

from schemas.diagnostics import Finding, Path, Related, Span
from schemas.document_model import NOTHING, Document, check_scalar
from schemas.lines import BYTE_ORDER_MARK
from schemas.yaml_text import load_yaml

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
