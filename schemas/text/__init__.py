"""Input files as text: JSON and YAML with positions, and edits of them."""

from typing import Any

from schemas.base.diagnostics import Edit, Finding, Fix, Span
from schemas.text.document import BYTE_ORDER_MARK, NOTHING, Document, Lines
from schemas.text.json_reader import read_json

YAML_SUFFIXES = (".yaml", ".yml")
JSON_SUFFIXES = (".json",)
_START = Span(1, 1, 1, 2)


def read_document(text: str, name: str) -> Document:
    """Read a text as JSON, or as YAML if its name says so.

    Never raises for a bad text: `findings` say what is wrong, and `data` is None if nothing can
    be made of it.
    """
    is_yaml = name.lower().endswith(YAML_SUFFIXES)
    document = Document(name, Lines(text), is_yaml=is_yaml)
    if text.startswith(BYTE_ORDER_MARK):
        hint = "save the file as UTF-8 without a byte order mark; deepmd-kit refuses it"
        fix = Fix("remove the byte order mark", (Edit(Span(1, 0, 1, 1), ""),))
        message = "the file begins with a byte order mark"
        document.findings.append(Finding("ZOO006", (), message, hint, span=_START, fix=fix))
    if not text.strip(BYTE_ORDER_MARK + " \t\r\n"):
        hint = "start from one of the examples"
        document.findings.append(Finding("ZOO002", (), "the file is empty", hint))
        return document
    data: Any
    if is_yaml:
        from schemas.text.yaml_text import read_yaml

        data = read_yaml(document)
    else:
        data = read_json(document)
    if data is NOTHING:
        return document
    if not isinstance(data, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(data), "a number")
        message = f"the top level is {kind}, not an object"
        hint = "an input has the keys model, learning_rate, loss and training"
        document.findings.append(Finding("ZOO003", (), message, hint, span=_START))
        return document
    document.data = data
    return document
