"""Check an input file: every fault at once, or the configuration it describes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from pydantic import ValidationError

from schemas.changes import fix_of, related_places
from schemas.diagnostics import Diagnostic, Finding, Path, Span
from schemas.document import JSON_SUFFIXES, YAML_SUFFIXES, Document, read_document
from schemas.errors import ConfigError
from schemas.explain import explain
from schemas.input import Input
from schemas.migrations import Migration
from schemas.outline import as_written
from schemas.overrides import apply_overrides
from schemas.partial import partial
from schemas.rules import run_rules
from schemas.scope import foreign_sections, settle_variants, suspicious_comments


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in an input file.

    Args:
        name: The file's name.
        lines: Lines of its text.
        config: The configuration; None if there are errors.
        diagnostics: Every fault, sorted by position.
        usable: The configuration, or what of it is sound (`schemas.partial`); None if nothing is.
        extend: Returns the report with more findings in it.
    """

    name: str
    lines: list[str] = field(repr=False)
    config: Input | None
    diagnostics: list[Diagnostic]
    usable: Input | None = field(default=None, repr=False)
    extend: "Callable[[Sequence[Finding]], Report] | None" = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return not any(item.severity == "error" for item in self.diagnostics)


def check_file(path: str | FilePath, overrides: Sequence[str] = ()) -> Report:
    """Check an input file; paths of data in it are relative to the current folder.

    Raises:
        OSError: The file cannot be read.
    """
    name = str(path)
    content = FilePath(path).read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8 text"
        hint = "save the file as UTF-8; an input file is JSON or YAML"
        return Report(name, [], None, [Diagnostic("ZOO009", "error", message, (), None, hint)])
    return check_text(text, name, overrides)


def check_text(text: str, name: str = "input.json", overrides: Sequence[str] = ()) -> Report:
    """Check the text of an input file; its name says whether it is JSON or YAML."""
    document = read_document(text, name)
    findings = list(document.findings)
    if not name.lower().endswith((*JSON_SUFFIXES, *YAML_SUFFIXES)) and name != "<stdin>":
        message = f"the suffix of {FilePath(name).name} is not .json, .yaml or .yml"
        hint = "deepmd-kit does not read it; rename the file"
        findings.append(Finding("ZOO007", (), message, hint, severity="warning"))
    if document.data is None:
        return _report(document, None, findings, Migration({}), [])
    data = copy.deepcopy(document.data)
    overridden, more = apply_overrides(data, overrides)
    findings += more
    if isinstance(data.get("model"), dict) and "model_dict" in data["model"]:
        message = "this input has several branches (`model_dict`): multi-task training"
        hint = "multi-task training comes with a later version; give one model and its data"
        findings.append(Finding("ZOO109", ("model", "model_dict"), message, hint, at="key"))
        return _report(document, None, findings, Migration(data), overridden)
    findings += suspicious_comments(data)
    migration = Migration(data)
    migration.run()
    findings += migration.findings
    config: Input | None = None
    broken = [item.path for item in document.findings if item.code == "ZOO005"]
    foreign = foreign_sections(data)
    findings += foreign
    findings += settle_variants(data)
    hidden = [finding.path[:-1] for finding in foreign]
    try:
        config = Input.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            finding = explain(data, details)
            broken.append(finding.path)
            if not any(_below(finding.path, path) for path in hidden):
                findings.append(finding)
    broken += hidden
    sound = config if config is not None and not broken else partial(Input, data, broken)
    findings += run_rules(sound)

    def report(more: Sequence[Finding]) -> Report:
        placed = _report(document, config, [*findings, *more], migration, overridden)
        return replace(placed, usable=sound, extend=report)

    return report([])


def load_input(path: str | FilePath, overrides: Sequence[str] = ()) -> Input:
    """Read an input file.

    Raises:
        ConfigError: There are errors in it; `diagnostics` of the exception lists them all.
        OSError: The file cannot be read.
    """
    return checked(check_file(path, overrides))


def checked(report: Report) -> Input:
    """Return the configuration of a report.

    Raises:
        ConfigError: There is none, because of errors.
    """
    if report.config is not None and report.ok:
        return report.config
    errors = [item for item in report.diagnostics if item.severity == "error"]
    first = errors[0]
    where = f":{first.span.line}:{first.span.col}" if first.span else ""
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    hint = f"`zoo validate {report.name}` shows everything"
    message = f"{report.name}{where}: {first.message}{others}"
    raise ConfigError(message, hint=hint, diagnostics=report.diagnostics)


def _below(path: Path, ancestor: Path) -> bool:
    return path[: len(ancestor)] == ancestor


def _report(
    document: Document,
    config: Input | None,
    findings: Sequence[Finding],
    migration: Migration,
    overridden: Sequence[Path],
) -> Report:
    """Place findings in the text and sort them; the first at a path and code stays."""
    placed: dict[tuple[str, Path, str], Diagnostic] = {}
    textual = {item.path for item in document.findings if item.code == "ZOO005"}
    renamed = {(*item.path[:-1], item.fix) for item in findings if item.code == "ZOO102"}
    for finding in findings:
        if finding.path in textual and finding not in document.findings:
            continue  # the text says it better
        if finding.code == "ZOO101" and finding.path in renamed:
            continue  # missing because it is misspelt
        path = _original(as_written(migration.data, finding.path), migration.moved)
        is_set = any(_below(path, item) for item in overridden)
        span = None if is_set else finding.span or _locate(document, path, finding.at)
        message = finding.message + (" (from --set)" if is_set else "")
        fix = None if is_set else fix_of(document, finding, path, span)
        related = related_places(document, finding)
        item = Diagnostic(
            finding.code, finding.severity, message, path, span, finding.hint, fix, related
        )
        placed.setdefault((item.code, item.path, item.message), item)
    diagnostics = sorted(placed.values(), key=_position)
    ok = not any(item.severity == "error" for item in diagnostics)
    return Report(document.name, document.lines, config if ok else None, diagnostics)


def _original(path: Path, moved: dict[Path, Path]) -> Path:
    """Return the path as written in the file, before keys were put in their present place."""
    for length in range(len(path), 0, -1):
        if path[:length] in moved:
            return (*moved[path[:length]], *path[length:])
    return path


def _locate(document: Document, path: Path, at: str) -> Span | None:
    if at == "key" and path in document.keys:
        return document.keys[path]
    if path in document.values:
        span = document.values[path]
        is_block = span.line != span.end_line
        return document.keys.get(path, span) if is_block else span
    for length in range(len(path) - 1, 0, -1):
        if path[:length] in document.keys:
            return document.keys[path[:length]]
        if path[:length] in document.values:
            return document.values[path[:length]]
    return Span(1, 1, 1, 2) if document.lines else None


def _position(item: Diagnostic) -> tuple[int, int, str]:
    if item.span is None:
        return (0, 0, item.code)
    return (item.span.line, item.span.col, item.code)
