"""Check an input file: every fault at once, or the configuration it describes; apply fixes."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from schemas.base.diagnostics import Diagnostic, Edit, Finding
from schemas.base.errors import ConfigError
from schemas.check.data_folders import forget, without_absent_data
from schemas.check.report import Report, placed
from schemas.check.start import check_start
from schemas.check.task import check_branches, examine, with_users
from schemas.check.training import RUN_FOLDER
from schemas.input.branches import Draft, is_multitask
from schemas.input.migrations import Migration
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import Start, Target, with_pretrained
from schemas.input.view import View, apply_overrides
from schemas.text import JSON_SUFFIXES, YAML_SUFFIXES, read_document
from schemas.text.document import Document, Lines

_LARGEST = 64 * 2**20
"""Bytes of an input file."""

Check = Callable[[str], Report]


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
        return Report(document.name, document.lines, None, placed(document, findings, {}, []))
    data = copy.deepcopy(document.data)
    overridden, more = apply_overrides(data, overrides)
    migration = Migration(data)
    migration.run()
    findings += [*more, *migration.findings]
    draft = Draft(data, start) if is_multitask(data) else None
    config, more, targets = _examined(draft or data, document, start)
    findings += more

    def report(later: Sequence[Finding]) -> Report:
        everything = without_absent_data(data, [*findings, *later], elsewhere=data_elsewhere)
        if draft is not None:
            everything = with_users(everything, draft)
        diagnostics = placed(document, everything, migration.moved, overridden)
        ok = not any(item.severity == "error" for item in diagnostics)
        return Report(
            document.name,
            document.lines,
            config if ok else None,
            diagnostics,
            targets,
            start,
            again=lambda more: report([*later, *more]),
        )

    return report([])


def _examined(
    task: Draft | dict[str, Any], document: Document, start: Start | None
) -> tuple[Input | MultiTaskInput | None, list[Finding], list[Target]]:
    """Check one task or several: the configuration, every fault, what is sound of each branch."""
    textual = [item.path for item in document.findings if item.code == "ZOO005"]
    config: Input | MultiTaskInput | None
    if isinstance(task, Draft):
        config, findings = check_branches(task, textual)
        targets = [Target(view, task.sound[view.branch]) for view in task.views if view.branch]
    else:
        view = with_pretrained(View(task), start)
        config, sound, findings = examine(view, textual)
        targets = [Target(view, sound)]
    return config, [*findings, *check_start(targets, start, config)], targets


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


_MOST_ROUNDS = 200
_NEVER_MORE = frozenset({"ZOO001", "ZOO003", "ZOO004", "ZOO005", "ZOO006", "ZOO106"})
"""Faults that no fix may bring about, whatever others it removes."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A text after its fixes.

    Args:
        text: The text.
        applied: The diagnostics whose fixes were applied, in the order of their application.
        report: What is found in the text now.
    """

    text: str
    applied: list[Diagnostic]
    report: Report


def fix_text(
    text: str, name: str = "input.json", *, unsafe: bool = False, check: Check | None = None
) -> Fixed:
    """Apply every fix that makes the text no worse.

    A fix stays only if the text can be read afterwards, no fault of the text itself comes up, and
    faults of keys and values do not become more. Rules between values may then find what was
    hidden before.

    Args:
        text: The text of an input file.
        name: Its name, which says whether it is JSON or YAML.
        unsafe: Whether to apply fixes too that may change what the file means.
        check: How to check a text; `check_text` by default.
    """
    check = check or (lambda new: check_text(new, name))
    state = Fixed(text, [], check(text))
    for _ in range(_MOST_ROUNDS):
        chosen = _chosen(state.report, unsafe=unsafe)
        new = _attempt(state, chosen, check)
        for item in chosen if new is None else []:
            new = new or _attempt(state, [item], check)
        if new is None:
            break
        state = new
    return state


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """Return the text after edits that do not overlap."""
    lines = Lines(text)
    placed = sorted((*lines.offsets(edit.span), edit.replacement) for edit in edits)
    parts = []
    at = 0
    for start, end, replacement in placed:
        parts += [text[at:start], replacement]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def _chosen(report: Report, *, unsafe: bool) -> list[Diagnostic]:
    """Return diagnostics with fixes that can be applied at once, each fix once."""
    chosen: list[Diagnostic] = []
    edits: list[Edit] = []
    fixable = [item for item in report.diagnostics if item.fix and (item.fix.safe or unsafe)]
    textual = [item for item in fixable if item.code < "ZOO1"]
    for item in textual or fixable:
        fix = item.fix
        if fix is None or any(other.fix is fix for other in chosen):
            continue
        if not any(_clash(new, edit) for new in fix.edits for edit in edits):
            chosen.append(item)
            edits += fix.edits
    return chosen


def _clash(one: Edit, other: Edit) -> bool:
    first, second = sorted((one.span, other.span))
    touch = (first.end_line, first.end_col) == (second.line, second.col)
    return touch or (first.end_line, first.end_col) > (second.line, second.col)


def _attempt(state: Fixed, items: list[Diagnostic], check: Check) -> Fixed | None:
    """Return the state after some fixes, None if they make nothing better."""
    edits = [edit for item in items if item.fix is not None for edit in item.fix.edits]
    text = apply_edits(state.text, edits)
    if text == state.text:
        return None
    report = check(text)
    before, after = _faults(state.report), _faults(report)
    worse = any(after[code] > before[code] for code in _NEVER_MORE)
    textual = all(item.code < "ZOO1" for item in items)
    if worse or (after.total() > before.total() and not textual):
        return None
    return Fixed(text, [*state.applied, *items], report)


def _faults(report: Report) -> Counter[str]:
    """Return how often each fault of the text, of keys and of values was found."""
    return Counter(item.code for item in report.diagnostics if item.code < "ZOO2")
