"""Faults of JSON texts that people make: what they are, and how to read on in spite of them."""

import json
import re

from schemas.diagnostics import Finding, Path, Span

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<mark>[{}\[\]:,])"""
    r"""|(?P<comment>//[^\n]*|\#[^\n]*|/\*.*?\*/)|(?P<word>[^\s{}\[\]:,"'/\#]+)""",
    re.DOTALL,
)
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u00ab\u00bb"


def repaired(text: str) -> tuple[str, list[Finding]]:
    """Return the text with harmless faults taken out, and a finding for each.

    Trailing commas, comments and Python's True, False and None are replaced by text of the same
    length, so that positions stay true and the rest of the file can be checked as well.
    """
    try:
        json.loads(text, parse_int=str)
    except (ValueError, RecursionError):
        pass
    else:
        return text, []
    findings: list[Finding] = []
    patched = list(text)
    comma: int | None = None
    for token in _TOKEN.finditer(text):
        start, end = token.span()
        written = token[0]
        if token["comment"]:
            message = "JSON has no comments"
            hint = "use a key that starts with an underscore instead"
            findings.append(_at(text, start, end, message, hint, fix=""))
            patched[start:end] = [" " if char != "\n" else char for char in written]
            continue
        if comma is not None and written in ("}", "]"):
            message = "a comma before the closing bracket"
            findings.append(_at(text, comma, comma + 1, message, "remove the comma", fix=""))
            patched[comma] = " "
        if written in _PYTHON_WORDS:
            right = _PYTHON_WORDS[written]
            message = f"`{written}` is Python, not JSON"
            findings.append(_at(text, start, end, message, f"write `{right}`", fix=right))
            patched[start:end] = list(right.ljust(end - start))
        comma = start if written == "," else None
    return ("".join(patched), findings) if findings else (text, [])


def explain(text: str, error: json.JSONDecodeError) -> Finding:
    """Say what is wrong where the JSON reader stopped."""
    position = min(error.pos, max(len(text) - 1, 0))
    rest = text[position:]
    hint: str | None = None
    if rest.startswith("'"):
        message, hint = "single quotes around a text", 'JSON wants double quotes: "..."'
    elif rest[:1] in _QUOTES and rest:
        message, hint = "typographic quotes around a text", 'JSON wants plain quotes: "..."'
    elif error.msg.startswith("Expecting ',' delimiter") and error.pos >= len(text.rstrip()):
        message, hint = "the text ends too early", "a closing bracket is missing"
    elif error.msg.startswith("Expecting ',' delimiter"):
        message, hint = "a comma is missing before this", None
    elif error.msg.startswith("Expecting property name"):
        message, hint = "a key in double quotes is missing here", None
    elif error.msg.startswith("Expecting ':'"):
        message, hint = "a colon is missing after the key", None
    elif error.msg.startswith("Extra data"):
        message, hint = "the text goes on after the end of the object", "remove what follows"
    elif error.msg.startswith("Unterminated string"):
        message, hint = "a text that begins here has no closing quote", None
    elif rest.lstrip()[:1] == "<":
        message, hint = "this is an HTML or XML page, not an input file", None
    elif error.pos >= len(text.rstrip()):
        message, hint = "the text ends too early", "a value or a closing bracket is missing"
    else:
        message = "a value is missing here, or is not JSON"
    return _at(text, position, position + 1, message, hint)


def _at(
    text: str, start: int, end: int, message: str, hint: str | None, *, fix: str | None = None
) -> Finding:
    span = Span(*_line_and_column(text, start), *_line_and_column(text, end))
    return Finding("ZOO001", path_at(text, start), message, hint, fix=fix, span=span)


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text.count("\n", 0, position)
    return before + 1, position - (text.rfind("\n", 0, position) + 1) + 1


def path_at(text: str, position: int) -> Path:
    """Return the path of the value at a position, as far as the text before it tells."""
    stack: list[str | int] = []
    last: str | int | None = None
    for token in _TOKEN.finditer(text, 0, position):
        written = token[0]
        if token["string"] and (not stack or not isinstance(stack[-1], int)):
            last = written[1:-1]
        elif written == ":" and stack and isinstance(last, str):
            stack[-1] = last
        elif written == "{":
            stack.append("")
        elif written == "[":
            stack.append(0)
        elif written in ("}", "]") and stack:
            stack.pop()
        elif written == "," and stack and isinstance(stack[-1], int):
            stack[-1] += 1
    return tuple(part for part in stack if part != "")
