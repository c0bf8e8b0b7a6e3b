"""Diagnostics, spans and texts of ours as those of the Language Server Protocol.

The protocol counts lines and columns from 0, and columns in UTF-16 units.
"""

from collections.abc import Sequence

from lsprotocol import types as lsp

from schemas.diagnostics import Diagnostic, Edit, Span
from schemas.diagnostics import Path as JsonPath
from schemas.document_model import Document
from schemas.manual.keys import Key, explain_key

_SEVERITIES = {
    "error": lsp.DiagnosticSeverity.Error,
    "warning": lsp.DiagnosticSeverity.Warning,
    "note": lsp.DiagnosticSeverity.Information,
}


def to_range(lines: Sequence[str], span: Span | None) -> lsp.Range:
    """Return a span as a range; what is nowhere in the text is at its beginning."""
    if span is None:
        return lsp.Range(lsp.Position(0, 0), lsp.Position(0, 1))
    start = _position(lines, span.line, span.col)
    return lsp.Range(start, _position(lines, span.end_line, span.end_col))


def _position(lines: Sequence[str], line: int, col: int) -> lsp.Position:
    before = lines[line - 1][: max(col - 1, 0)] if line <= len(lines) else ""
    return lsp.Position(line - 1, len(before.encode("utf-16-le")) // 2)


def to_diagnostic(uri: str, lines: Sequence[str], item: Diagnostic) -> lsp.Diagnostic:
    """Return a diagnostic as the protocol has it, its hint on a second line."""
    message = f"{item.message}\n{item.hint}" if item.hint else item.message
    related = [
        lsp.DiagnosticRelatedInformation(
            lsp.Location(uri, to_range(lines, place.span)), place.label
        )
        for place in item.related
    ]
    return lsp.Diagnostic(
        range=to_range(lines, item.span),
        message=message,
        severity=_SEVERITIES[item.severity],
        code=item.code,
        source="zoo",
        related_information=related or None,
    )


def to_action(uri: str, lines: Sequence[str], item: Diagnostic) -> lsp.CodeAction | None:
    """Return the quick fix of a diagnostic; None if it has none, or none in an editor's text."""
    if item.fix is None:
        return None
    edits = [_to_edit(lines, edit) for edit in item.fix.edits if edit.span.col > 0]
    if not edits:
        return None
    return lsp.CodeAction(
        title=item.fix.title[:1].upper() + item.fix.title[1:],
        kind=lsp.CodeActionKind.QuickFix,
        diagnostics=[to_diagnostic(uri, lines, item)],
        is_preferred=item.fix.safe,
        edit=lsp.WorkspaceEdit(changes={uri: edits}),
    )


def _to_edit(lines: Sequence[str], edit: Edit) -> lsp.TextEdit:
    return lsp.TextEdit(to_range(lines, edit.span), edit.replacement)


def path_at(document: Document, line: int, utf16_column: int) -> JsonPath | None:
    """Return the path of the key or value at a position; None if there is none."""
    lines = document.lines
    if line >= len(lines):
        return None
    units = lines[line].encode("utf-16-le")[: 2 * utf16_column]
    place = (line + 1, len(units.decode("utf-16-le", "replace")) + 1)
    best: tuple[Span, JsonPath] | None = None
    for spans in (document.keys, document.values):
        for path, span in spans.items():
            inside = (span.line, span.col) <= place < (span.end_line, span.end_col)
            if inside and (best is None or (span.line, span.col) >= (best[0].line, best[0].col)):
                best = (span, path)
    return best[1] if best is not None else None


def hover_text(path: JsonPath) -> str | None:
    """Return what a key means, as Markdown; None if it is not a key of an input."""
    key = explain_key(path)
    return None if key is None or not path else _markdown(key)


def _markdown(key: Key) -> str:
    facts = [key.type]
    if key.unit:
        facts.append(f"in {key.unit}")
    if key.required:
        facts.append("required")
    elif key.default is not None:
        facts.append(f"default `{key.default}`")
    if key.aliases:
        facts.append("also called " + ", ".join(f"`{name}`" for name in key.aliases))
    text = f"**{key.path}** ({'; '.join(facts)})\n\n{key.effect}"
    if key.keys:
        text += "\n\nKeys: " + ", ".join(f"`{item.path.rpartition('.')[2]}`" for item in key.keys)
    return text
