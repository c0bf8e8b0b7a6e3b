"""Diagnostics for people and programs: full, concise, GitHub annotations, SARIF, fixes."""

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO
from urllib.parse import quote

import typer

from cli import VERSION
from cli.output import Output
from schemas.base.diagnostics import Diagnostic, Fix, Related, Severity, Span, dotted
from schemas.base.terminal import harmless, one_line, same_width
from schemas.base.writing import write_text
from schemas.check.report import HERE_TOO, Report
from schemas.explain import entries

_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "error": "31",
    "removed": "31",
    "added": "32",
    "warning": "33",
    "note": "36",
}


@dataclass(frozen=True, slots=True)
class Colors:
    """Paints text, or leaves it as it is.

    Args:
        enabled: Whether to paint.
    """

    enabled: bool

    def paint(self, style: str, text: str) -> str:
        """Return a text in a style: bold, dim, a severity, added or removed; or several of them."""
        code = ";".join(_CODES[word] for word in style.split())
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled and text else text


PLAIN: Final = Colors(enabled=False)


def colors_of(stream: TextIO) -> Colors:
    """Return the colours for a stream (https://no-color.org; FORCE_COLOR turns them on)."""
    if os.environ.get("NO_COLOR"):
        return PLAIN
    if os.environ.get("FORCE_COLOR"):
        return Colors(enabled=True)
    return Colors(enabled=stream.isatty() and os.environ.get("TERM") != "dumb")


@dataclass(frozen=True, slots=True)
class Repair:
    """What fixes make of a file.

    Args:
        name: The file's name.
        before: Its text.
        after: Its text with the fixes.
        applied: The diagnostics that were fixed.
    """

    name: str
    before: str
    after: str
    applied: "list[Diagnostic]"

    def diff(self, colors: Colors = PLAIN) -> Iterator[str]:
        """Yield the lines of a unified diff."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), self.name, self.name, lineterm=""
        )
        for line in map(one_line, lines):
            kind = {"+": "added", "-": "removed"}.get(line[:1])
            yield colors.paint(kind, line) if kind else line

    def write(self) -> None:
        """Write the text back at once or not at all; a file that stays as it is, is not touched."""
        if self.after != self.before:
            write_text(Path(self.name), self.after)


def repair(text: str, name: str, overrides: Sequence[str], *, unsafe: bool) -> Repair:
    """Return what the fixes of a text make of it."""
    from schemas.check.input_file import check_text, fix_text

    fixed = fix_text(text, name, unsafe=unsafe, check=lambda new: check_text(new, name, overrides))
    return Repair(name, text, fixed.text, fixed.applied)


_LONGEST: Final = 100
_MOST_EXCERPTS: Final = 3
_MOST_PLACES: Final = 10
_MOST_LABELS: Final = 8
_SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")


def render(report: Report, style: str, colors: Colors = PLAIN) -> Iterator[str]:
    """Yield the lines that show a report's diagnostics; style is full, concise or github."""
    for item in report.diagnostics:
        if style == "github":
            yield _github(report, item)
            continue
        yield _headline(report, item, colors)
        if style == "full":
            yield from _excerpt(report, item, colors)


def show(report: Report) -> None:
    """Print a report's diagnostics on stderr, for a command that goes on after them."""
    for line in render(report, "full"):
        sys.stderr.write(line + "\n")


def refuse(report: Report, out: Output, code: int = 1) -> NoReturn:
    """Print why an input cannot be used, and end the command with an exit code."""
    show(report)
    faults = [item.document() for item in report.diagnostics]
    out.result({"ok": False, "file": report.name, "diagnostics": faults})
    raise typer.Exit(code)


def summary(reports: Sequence[Report]) -> str:
    """Return the last line: how many files, how many errors and warnings."""
    items = [item for report in reports for item in report.diagnostics]
    counts = [(sum(item.severity == kind for item in items), kind) for kind in _SEVERITIES]
    found = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts if count)
    name = reports[0].name if len(reports) == 1 else f"{len(reports)} files"
    fixable = sum(item.fix is not None and item.fix.safe for item in items)
    remedy = f"; --fix repairs {fixable} of them" if fixable else ""
    return f"{name}: {found or 'no faults found'}{remedy}"


def _headline(report: Report, item: Diagnostic, colors: Colors) -> str:
    where = f":{item.span.line}:{item.span.col}" if item.span else ""
    severity = colors.paint(f"bold {item.severity}", item.severity)
    name = colors.paint("bold", one_line(report.name) + where)
    return f"{name}  {severity}  {item.code}  {harmless(item.message)}"


def _excerpt(report: Report, item: Diagnostic, colors: Colors) -> Iterator[str]:
    """Yield the line at fault with the fault underlined and the hint beside it."""
    same = colors.paint("dim", "=")
    if item.span is None or item.span.line > len(report.lines):
        if item.hint:
            yield f"     {same} {harmless(item.hint)}"
    else:
        yield from _marked(report.lines, item.span, "^", item.hint, item.severity, colors)
    repeated = [place for place in item.related if place.label == HERE_TOO and place.span]
    if len(repeated) > _MOST_EXCERPTS:
        yield f"     {same} {_places(repeated)}"
    else:
        repeated = []
    others = [place for place in item.related if place not in repeated]
    placed = [place for place in others if place.span is not None]
    rest = placed[_MOST_EXCERPTS:] if len(placed) > _MOST_LABELS else []
    for place in (place for place in others if place not in rest):
        if place.span is None or place.span == item.span:
            yield f"     {same} {harmless(place.label)}"
        elif place.span.line <= len(report.lines):
            yield from _marked(report.lines, place.span, "-", place.label, "dim", colors)
    if rest:
        yield f"     {same} {_places(rest)}"


def _places(repeated: Sequence[Related]) -> str:
    """Return where a fault is repeated, in one line."""
    spans = [place.span for place in repeated if place.span is not None]
    shown = ", ".join(f"{span.line}:{span.col}" for span in spans[:_MOST_PLACES])
    more = f" and {len(spans) - _MOST_PLACES} more places" if len(spans) > _MOST_PLACES else ""
    return f"also at {shown}{more}"


def _marked(
    lines: Sequence[str], span: Span, sign: str, label: str | None, style: str, colors: Colors
) -> Iterator[str]:
    """Yield a line of the text and below it the marks, with a label behind them."""
    line = same_width(lines[span.line - 1].replace("\t", " "))
    end = span.end_col if span.end_line == span.line else len(line.rstrip()) + 1
    start = max(span.col, 1)
    if len(line) > _LONGEST:  # show the stretch around the fault
        cut = max(0, start - _LONGEST // 2)
        line, start, end = line[cut : cut + _LONGEST], start - cut, min(end - cut, _LONGEST + 1)
    width = max(1, end - start)
    yield f"{colors.paint('dim', f'{span.line:>4} |')} {line.rstrip()}"
    hint = f" {harmless(label)}" if label else ""
    marks = colors.paint(style, sign * width + hint)
    yield f"{colors.paint('dim', '     |')} {' ' * (start - 1)}{marks}"


def _github(report: Report, item: Diagnostic) -> str:
    kind = {"note": "notice"}.get(item.severity, item.severity)
    where = f"file={_escaped([report.name], ':,')}"
    if item.span:
        where += f",line={item.span.line},col={item.span.col}"
        where += f",endLine={item.span.end_line},endColumn={item.span.end_col}"
    text = f"{dotted(item.path)}: {item.message}" if item.path else item.message
    return f"::{kind} {where},title={item.code}::{_escaped([harmless(text), item.hint])}"


def _escaped(parts: Iterable[str | None], also: str = "") -> str:
    text = "\n".join(part for part in parts if part)
    for char in "%\r\n" + also:
        text = text.replace(char, f"%{ord(char):02X}")
    return text


_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif(reports: Sequence[Report]) -> dict[str, Any]:
    """Return one SARIF log with one run for all files."""
    used = sorted({item.code for report in reports for item in report.diagnostics})
    rules = [{"id": code, "shortDescription": {"text": entries()[code].meaning}} for code in used]
    results = [_result(report, item, used) for report in reports for item in report.diagnostics]
    driver = {"name": "zoo", "semanticVersion": VERSION, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(report: Report, item: Diagnostic, codes: Sequence[str]) -> dict[str, Any]:
    text = f"{dotted(item.path)}: {item.message}" if item.path else item.message
    result: dict[str, Any] = {
        "ruleId": item.code,
        "ruleIndex": codes.index(item.code),
        "level": item.severity,
        "message": {"text": f"{text} ({item.hint})" if item.hint else text},
        "locations": [_location(report, item.span)],
    }
    if item.path:
        logical = {"fullyQualifiedName": dotted(item.path)}
        result["locations"][0]["logicalLocations"] = [logical]
    if item.related:
        result["relatedLocations"] = [
            {"id": number, "message": {"text": place.label}, **_location(report, place.span)}
            for number, place in enumerate(item.related)
        ]
    if item.fix is not None:
        result["fixes"] = [_fix(report, item.fix)]
    return result


def _location(report: Report, span: Span | None) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(report.name)}}
    if span is not None:
        physical["region"] = _region(span)
    return {"physicalLocation": physical}


def _fix(report: Report, fix: Fix) -> dict[str, Any]:
    replacements = [
        {
            "deletedRegion": _region(edit.span),
            "insertedContent": {"text": edit.replacement},
        }
        for edit in fix.edits
    ]
    change = {"artifactLocation": {"uri": _uri(report.name)}, "replacements": replacements}
    return {"description": {"text": fix.title}, "artifactChanges": [change]}


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": max(span.col, 1),
        "endLine": span.end_line,
        "endColumn": max(span.end_col, 1),
    }


def _uri(name: str) -> str:
    path = Path(name)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
