"""Diagnostics as text: full with the line at fault, concise, or GitHub annotations."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cli.output import Output
from cli.render.color import PLAIN, Colors, Paint, colors_of
from schemas.check import Report
from schemas.diagnostics import Diagnostic, Related, Severity, Span, dotted
from schemas.merging import HERE_TOO
from schemas.terminal import harmless, one_line, same_width, unguarded

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
    severity = colors.severity(item.severity)
    name = colors.bold(one_line(report.name) + where)
    return f"{name}  {severity}  {item.code}  {harmless(item.message)}"


def _excerpt(report: Report, item: Diagnostic, colors: Colors) -> Iterator[str]:
    """Yield the line at fault with the fault underlined and the hint beside it."""
    if item.span is None or item.span.line > len(report.lines):
        if item.hint:
            yield f"     {colors.dim('=')} {harmless(item.hint)}"
    else:
        mark = colors.mark(item.severity)
        yield from _marked(report.lines, item.span, "^", item.hint, mark, colors)
    repeated = [place for place in item.related if place.label == HERE_TOO and place.span]
    if len(repeated) > _MOST_EXCERPTS:
        yield f"     {colors.dim('=')} {_places(repeated)}"
    else:
        repeated = []
    others = [place for place in item.related if place not in repeated]
    placed = [place for place in others if place.span is not None]
    rest = placed[_MOST_EXCERPTS:] if len(placed) > _MOST_LABELS else []
    for place in others:
        if place in rest:
            continue
        if place.span is None or place.span == item.span:
            yield f"     {colors.dim('=')} {harmless(place.label)}"
        elif place.span.line <= len(report.lines):
            yield from _marked(report.lines, place.span, "-", place.label, colors.dim, colors)
    if rest:
        yield f"     {colors.dim('=')} {_places(rest)}"


def _places(repeated: Sequence[Related]) -> str:
    """Return where a fault is repeated, in one line."""
    spans = [place.span for place in repeated if place.span is not None]
    shown = ", ".join(f"{span.line}:{span.col}" for span in spans[:_MOST_PLACES])
    more = f" and {len(spans) - _MOST_PLACES} more places" if len(spans) > _MOST_PLACES else ""
    return f"also at {shown}{more}"


def _marked(
    lines: Sequence[str], span: Span, sign: str, label: str | None, mark: Paint, colors: Colors
) -> Iterator[str]:
    """Yield a line of the text and below it the marks, with a label behind them."""
    line = same_width(lines[span.line - 1].replace("\t", " "))
    end = span.end_col if span.end_line == span.line else len(line.rstrip()) + 1
    start = max(span.col, 1)
    if len(line) > _LONGEST:  # show the stretch around the fault
        cut = max(0, start - _LONGEST // 2)
        line, start, end = line[cut : cut + _LONGEST], start - cut, min(end - cut, _LONGEST + 1)
    width = max(1, end - start)
    yield f"{colors.dim(f'{span.line:>4} |')} {line.rstrip()}"
    hint = f" {harmless(label)}" if label else ""
    yield f"{colors.dim('     |')} {' ' * (start - 1)}{mark(sign * width + hint)}"


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


def show_diagnostics(report: Report, output: Output) -> None:
    """Print a report's diagnostics on stderr before a run; `--quiet` leaves out all but errors."""
    colors = colors_of(sys.stderr)
    for item in report.diagnostics:
        if output.quiet and item.severity != "error":
            continue
        lines = [_headline(report, item, colors), *_excerpt(report, item, colors)]
        unguarded(sys.stderr).write("\n".join(lines) + "\n")
