"""Diagnostics as SARIF 2.1.0 (OASIS), which code hosts and editors read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli.version import VERSION
from schemas.check import Report
from schemas.diagnostics import Diagnostic, Fix, Span, dotted
from schemas.manual.codes import meanings

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif(reports: Sequence[Report]) -> dict[str, Any]:
    """Return one SARIF log with one run for all files."""
    used = sorted({item.code for report in reports for item in report.diagnostics})
    known = meanings()
    rules = [{"id": code, "shortDescription": {"text": known.get(code, code)}} for code in used]
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
