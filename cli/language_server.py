"""A language server for input files: diagnostics, hover, quick fixes."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from cli import VERSION
from schemas.base.diagnostics import Diagnostic, Span
from schemas.base.diagnostics import Path as JsonPath
from schemas.check.data_folders import forget
from schemas.check.input_file import check_text
from schemas.check.report import Report
from schemas.explain import Key, explain_key
from schemas.text import JSON_SUFFIXES, YAML_SUFFIXES, read_document
from schemas.text.document import Document

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
    edits = [
        lsp.TextEdit(to_range(lines, edit.span), edit.replacement)
        for edit in item.fix.edits
        if edit.span.col > 0
    ]
    if not edits:
        return None
    return lsp.CodeAction(
        title=item.fix.title[:1].upper() + item.fix.title[1:],
        kind=lsp.CodeActionKind.QuickFix,
        diagnostics=[to_diagnostic(uri, lines, item)],
        is_preferred=item.fix.safe,
        edit=lsp.WorkspaceEdit(changes={uri: edits}),
    )


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


def _markdown(key: Key) -> str:
    """Return what a key means."""
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


_INPUT_KEYS = frozenset({"model", "learning_rate", "loss", "loss_dict", "training"})


class InputServer(LanguageServer):
    """Serves input files; keeps the last report of each."""

    def __init__(self) -> None:
        super().__init__("zoo", VERSION, text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
        self.reports: dict[str, Report] = {}

    def check(self, uri: str) -> None:
        """Check the text of a document and publish what was found."""
        document = self.workspace.get_text_document(uri)
        folder = Path(url2pathname(urlsplit(uri).path)).parent
        forget()  # folders come and go while an editor is open
        with contextlib.chdir(folder if folder.is_dir() else "."):  # where its data are
            report = check_text(document.source, _name_of(uri, document.language_id))
        if not _is_input(document.source, report):
            report = Report(report.name, report.lines, None, [])
        self.reports[uri] = report
        found = [to_diagnostic(uri, report.lines, item) for item in report.diagnostics]
        self.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(uri, found, document.version)
        )


def _name_of(uri: str, language: str | None) -> str:
    """Return a name whose suffix says how to read the text."""
    name = url2pathname(urlsplit(uri).path)
    if Path(name).suffix.lower() in (*JSON_SUFFIXES, *YAML_SUFFIXES):
        return name
    return "input.yaml" if language == "yaml" else "input.json"


def _is_input(source: str, report: Report) -> bool:
    """Return whether a text is meant as an input; editors open other JSON files too."""
    document = read_document(source, report.name)
    if document.data is None:
        return any(f'"{key}"' in source for key in _INPUT_KEYS)
    return len(_INPUT_KEYS & set(document.data)) >= 1 or not document.data


def create_server() -> InputServer:
    """Return a server with all of its features."""
    server = InputServer()

    def changed(ls: InputServer, params: Any) -> None:
        ls.check(params.text_document.uri)

    for event in (
        lsp.TEXT_DOCUMENT_DID_OPEN,
        lsp.TEXT_DOCUMENT_DID_CHANGE,
        lsp.TEXT_DOCUMENT_DID_SAVE,
    ):
        server.feature(event)(changed)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(ls: InputServer, params: lsp.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        ls.reports.pop(uri, None)
        ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))

    options = lsp.CodeActionOptions([lsp.CodeActionKind.QuickFix])
    server.feature(lsp.TEXT_DOCUMENT_HOVER)(_hover)
    server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, options)(_actions)
    return server


def _hover(ls: InputServer, params: lsp.HoverParams) -> lsp.Hover | None:
    uri, position = params.text_document.uri, params.position
    source = ls.workspace.get_text_document(uri)
    document = read_document(source.source, _name_of(uri, source.language_id))
    path = path_at(document, position.line, position.character)
    key = explain_key(path) if path else None
    if path is None or key is None:
        return None
    span = document.keys.get(path) or document.values.get(path)
    content = lsp.MarkupContent(lsp.MarkupKind.Markdown, _markdown(key))
    return lsp.Hover(content, to_range(document.lines, span))


def _actions(ls: InputServer, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
    uri, where = params.text_document.uri, params.range
    report = ls.reports.get(uri)
    if report is None:
        return []
    found = []
    for item in report.diagnostics:
        place = to_range(report.lines, item.span)
        if place.start <= where.end and where.start <= place.end:
            action = to_action(uri, report.lines, item)
            found += [action] if action is not None else []
    return found
