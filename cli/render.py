"""Diagnostics as text: full with the line at fault, concise, or GitHub annotations."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cli.output import Output
from schemas.check import Report
from schemas.diagnostics import Diagnostic, Severity, dotted

_LONGEST: Final = 100
_SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")


def render(report: Report, style: str) -> Iterator[str]:
    """Yield the lines that show a report's diagnostics; style is full, concise or github."""
    for item in report.diagnostics:
        if style == "github":
            yield _github(report, item)
            continue
        yield _headline(report, item)
        if style == "full":
            yield from _excerpt(report, item)


def summary(reports: Sequence[Report]) -> str:
    """Return the last line: how many files, how many errors and warnings."""
    items = [item for report in reports for item in report.diagnostics]
    counts = [(sum(item.severity == kind for item in items), kind) for kind in _SEVERITIES]
    found = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts if count)
    name = reports[0].name if len(reports) == 1 else f"{len(reports)} files"
    return f"{name}: {found or 'no faults found'}"


def _headline(report: Report, item: Diagnostic) -> str:
    where = f":{item.span.line}:{item.span.col}" if item.span else ""
    return f"{report.name}{where}  {item.severity}  {item.code}  {item.message}"


def _excerpt(report: Report, item: Diagnostic) -> Iterator[str]:
    """Yield the line at fault with the fault underlined and the hint beside it."""
    span = item.span
    if span is None or span.line > len(report.lines):
        if item.hint:
            yield f"     = {item.hint}"
        return
    line = report.lines[span.line - 1].replace("\t", " ")
    end = span.end_col if span.end_line == span.line else len(line.rstrip()) + 1
    start = span.col
    if len(line) > _LONGEST:  # show the stretch around the fault
        cut = max(0, start - _LONGEST // 2)
        line, start, end = line[cut : cut + _LONGEST], start - cut, min(end - cut, _LONGEST + 1)
    width = max(1, end - start)
    yield f"{span.line:>4} | {line.rstrip()}"
    hint = f" {item.hint}" if item.hint else ""
    yield f"     | {' ' * (start - 1)}{'^' * width}{hint}"


def _github(report: Report, item: Diagnostic) -> str:
    kind = {"note": "notice"}.get(item.severity, item.severity)
    where = f"file={_escaped([report.name], ':,')}"
    if item.span:
        where += f",line={item.span.line},col={item.span.col}"
        where += f",endLine={item.span.end_line},endColumn={item.span.end_col}"
    text = f"{dotted(item.path)}: {item.message}" if item.path else item.message
    return f"::{kind} {where},title={item.code}::{_escaped([text, item.hint])}"


def _escaped(parts: Iterable[str | None], also: str = "") -> str:
    text = "\n".join(part for part in parts if part)
    for char in "%\r\n" + also:
        text = text.replace(char, f"%{ord(char):02X}")
    return text


def show_diagnostics(report: Report, output: Output) -> None:
    """Print a report's diagnostics on stderr before a run; `--quiet` leaves out all but errors."""
    for item in report.diagnostics:
        if output.quiet and item.severity != "error":
            continue
        lines = [_headline(report, item), *_excerpt(report, item)]
        sys.stderr.write("\n".join(lines) + "\n")
