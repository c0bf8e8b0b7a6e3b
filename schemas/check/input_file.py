"""Check an input file: every fault at once, or the configuration it describes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from schemas.base.diagnostics import Diagnostic, Finding, Move, Path, Rewrite, Span
from schemas.base.errors import ConfigError
from schemas.check.data_folders import forget, without_absent_data
from schemas.check.merging import Placed, merged
from schemas.check.start import check_start
from schemas.check.task import check_branches, examine, with_users
from schemas.check.training import RUN_FOLDER
from schemas.input.branches import Draft, is_multitask
from schemas.input.migrations import Migration
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import Start, Target, with_pretrained
from schemas.input.view import View, apply_overrides, starts_with
from schemas.text.document import Document
from schemas.text.edits import fix_of, related_places
from schemas.text.reading import JSON_SUFFIXES, YAML_SUFFIXES, read_document

_LARGEST = 64 * 2**20
"""Bytes of an input file."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in an input file.

    Args:
        name: The file's name.
        lines: Lines of its text.
        config: The configuration; None if there are errors.
        diagnostics: Every fault, sorted by position.
        targets: The branches, or the only task, with what of them is sound.
        start: The checkpoint from which the training is to start.
        extend: Returns the report with more findings in it, such as those of the data.
    """

    name: str
    lines: list[str] = field(repr=False)
    config: Input | MultiTaskInput | None
    diagnostics: list[Diagnostic]
    targets: tuple[Target, ...] = field(default=(), repr=False)
    start: Start | None = field(default=None, repr=False)
    extend: "Callable[[Sequence[Finding]], Report] | None" = field(default=None, repr=False)

    def for_deepmd(self) -> "Report":
        """Return the report for a user of deepmd-kit: what only it trains is no fault then."""
        diagnostics = [
            item if item.for_deepmd is None else replace(item, severity=item.for_deepmd)
            for item in self.diagnostics
        ]
        return replace(self, diagnostics=diagnostics)

    @property
    def ok(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return not any(item.severity == "error" for item in self.diagnostics)


def check_file(
    path: str | FilePath,
    overrides: Sequence[str] = (),
    start: Start | None = None,
    *,
    folder: FilePath | None = None,
    data_elsewhere: bool = False,
) -> Report:
    """Check an input file; paths of data in it are relative to the current folder.

    Args:
        path: The file.
        overrides: Texts such as `training.numb_steps=1000`.
        start: The checkpoint from which the training is to start; the input must fit it.
        folder: Where the run writes; None: the current folder.
        data_elsewhere: Whether paths of data need not exist here.

    Raises:
        OSError: The file cannot be read.
    """
    token = RUN_FOLDER.set(folder or FilePath())
    try:
        return _check_file(path, overrides, start, data_elsewhere=data_elsewhere)
    finally:
        RUN_FOLDER.reset(token)


def _check_file(
    path: str | FilePath, overrides: Sequence[str], start: Start | None, *, data_elsewhere: bool
) -> Report:
    name = str(path)
    with FilePath(path).open("rb") as stream:  # a pipe as well: zoo validate <(...)
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        message = f"it has more than {_LARGEST:,} bytes: this is no input file"
        return Report(name, [], None, [Diagnostic("ZOO010", "error", message, (), None, None)])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8 text"
        hint = "save the file as UTF-8; an input file is JSON or YAML"
        return Report(name, [], None, [Diagnostic("ZOO009", "error", message, (), None, hint)])
    return check_text(text, name, overrides, start, data_elsewhere=data_elsewhere)


def check_text(
    text: str,
    name: str = "input.json",
    overrides: Sequence[str] = (),
    start: Start | None = None,
    *,
    data_elsewhere: bool = False,
) -> Report:
    """Check the text of an input file; its name says whether it is JSON or YAML.

    Args:
        text: The text.
        name: The file's name.
        overrides: Texts such as `training.numb_steps=1000`.
        start: The checkpoint from which the training is to start; the input must fit it.
        data_elsewhere: Whether paths of data need not exist here.
    """
    forget()  # folders may have changed since the last check
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
    migration = Migration(data)
    migration.run()
    findings += migration.findings
    textual = [item.path for item in document.findings if item.code == "ZOO005"]
    config: Input | MultiTaskInput | None
    draft = Draft(data, start) if is_multitask(data) else None
    if draft is not None:
        config, more, targets = _check_multitask(draft, textual)
    else:
        config, more, targets = _check_single_task(data, textual, start)
    findings += more

    def report(later: Sequence[Finding]) -> Report:
        everything = without_absent_data(data, [*findings, *later], elsewhere=data_elsewhere)
        if draft is not None:
            everything = with_users(everything, draft)
        placed = _report(document, config, everything, migration, overridden)

        def extended(more: Sequence[Finding]) -> Report:
            return report([*later, *more])

        return replace(placed, targets=tuple(targets), start=start, extend=extended)

    return report([])


def _check_single_task(
    data: dict[str, Any], textual: Sequence[Path], start: Start | None
) -> tuple[Input | None, list[Finding], list[Target]]:
    view = with_pretrained(View(data), start)
    examined = examine(view, textual)
    targets = [Target(view, examined.sound)]
    return (
        examined.config,
        [*examined.findings, *check_start(targets, start, examined.config)],
        targets,
    )


def _check_multitask(
    draft: Draft, textual: Sequence[Path]
) -> tuple[MultiTaskInput | None, list[Finding], list[Target]]:
    config, findings = check_branches(draft, textual)
    targets = [Target(view, draft.sound[view.branch]) for view in draft.views if view.branch]
    return config, [*findings, *check_start(targets, draft.start, config)], targets


def load_input(path: str | FilePath, overrides: Sequence[str] = ()) -> Input | MultiTaskInput:
    """Read an input file.

    Raises:
        ConfigError: There are errors in it; `diagnostics` of the exception lists them all.
        OSError: The file cannot be read.
    """
    return checked(check_file(path, overrides))


def checked(report: Report) -> Input | MultiTaskInput:
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


def _report(
    document: Document,
    config: Input | MultiTaskInput | None,
    findings: Sequence[Finding],
    migration: Migration,
    overridden: Sequence[Path],
) -> Report:
    """Place findings in the text, sort them, and say what is repeated once."""
    placed: dict[tuple[str, Path, str, Span | None], Placed] = {}
    textual = {item.path for item in document.findings if item.code == "ZOO005"}
    renamed = {(*item.path[:-1], item.fix) for item in findings if item.code == "ZOO102"}
    for finding in findings:
        if finding.path in textual and finding not in document.findings:
            continue  # the text says it better
        if finding.code == "ZOO101" and finding.path in renamed:
            continue  # missing because it is misspelt
        path = _original(finding.path, migration.moved)
        is_set = any(starts_with(path, item) for item in overridden)
        span = None if is_set else finding.span or _locate(document, path, finding.at)
        message = finding.message + (" (from --set)" if is_set else "")
        fix = None if is_set else fix_of(document, finding, path, span)
        related = related_places(document, finding)
        hint = finding.hint
        if document.is_yaml and isinstance(finding.fix, (Move, Rewrite)) and fix is None:
            by_hand = "--fix cannot do this in YAML of this form"
            hint = f"{hint} ({by_hand})" if hint else by_hand
        item = Diagnostic(
            finding.code,
            finding.severity,
            message,
            path,
            span,
            hint,
            fix,
            related,
            for_deepmd=finding.for_deepmd,
        )
        key = (item.code, item.path, item.message, finding.span)
        placed.setdefault(key, Placed(finding, item))
    items = sorted(placed.values(), key=lambda item: _position(item.diagnostic))
    diagnostics = merged(document, items)
    ok = not any(item.severity == "error" for item in diagnostics)
    return Report(document.name, document.lines, config if ok else None, diagnostics)


def _original(path: Path, moved: dict[Path, Path]) -> Path:
    """Return the path as written in the file, before keys were put in their present place."""
    for length in range(len(path), 0, -1):
        if path[:length] in moved:
            return (*moved[path[:length]], *path[length:])
    return path


def _locate(document: Document, path: Path, at: str) -> Span | None:
    if path and str(path[0]).startswith("--"):
        return None  # an option of the command line
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
