"""The language server: checks a text whenever it changes, explains and repairs it."""

import contextlib
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from cli.language_server.translate import hover_text, path_at, to_action, to_diagnostic, to_range
from cli.version import VERSION
from schemas.check import Report, check_text
from schemas.document import JSON_SUFFIXES, YAML_SUFFIXES, read_document
from schemas.rules.data_folders import systems_below

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
        systems_below.cache_clear()  # folders come and go while an editor is open
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
    known = Path(name).suffix.lower() in (*JSON_SUFFIXES, *YAML_SUFFIXES)
    if known:
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

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: InputServer, params: lsp.DidOpenTextDocumentParams) -> None:
        ls.check(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def changed(ls: InputServer, params: lsp.DidChangeTextDocumentParams) -> None:
        ls.check(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def saved(ls: InputServer, params: lsp.DidSaveTextDocumentParams) -> None:
        ls.check(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(ls: InputServer, params: lsp.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        ls.reports.pop(uri, None)
        ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hover(ls: InputServer, params: lsp.HoverParams) -> lsp.Hover | None:
        return _hover(ls, params.text_document.uri, params.position)

    options = lsp.CodeActionOptions([lsp.CodeActionKind.QuickFix])

    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, options)
    def actions(ls: InputServer, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        return _actions(ls, params.text_document.uri, params.range)

    return server


def _hover(server: InputServer, uri: str, position: lsp.Position) -> lsp.Hover | None:
    source = server.workspace.get_text_document(uri)
    document = read_document(source.source, _name_of(uri, source.language_id))
    path = path_at(document, position.line, position.character)
    text = hover_text(path) if path is not None else None
    if path is None or text is None:
        return None
    span = document.keys.get(path) or document.values.get(path)
    content = lsp.MarkupContent(lsp.MarkupKind.Markdown, text)
    return lsp.Hover(content, to_range(document.lines, span))


def _actions(server: InputServer, uri: str, where: lsp.Range) -> list[lsp.CodeAction]:
    report = server.reports.get(uri)
    if report is None:
        return []
    found = []
    for item in report.diagnostics:
        place = to_range(report.lines, item.span)
        if place.start <= where.end and where.start <= place.end:
            action = to_action(uri, report.lines, item)
            found += [action] if action is not None else []
    return found
