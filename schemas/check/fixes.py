"""Apply the fixes of diagnostics to a text, over and over until there is none left to apply."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schemas.base.diagnostics import Diagnostic, Edit, Fix
from schemas.check.input_file import Report, check_text
from schemas.text.document import Lines

Check = Callable[[str], Report]

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
        if fix is None or _known(fix, chosen):
            continue
        if not any(_clash(new, edit) for new in fix.edits for edit in edits):
            chosen.append(item)
            edits += fix.edits
    return chosen


def _known(fix: Fix, chosen: list[Diagnostic]) -> bool:
    return any(item.fix is fix for item in chosen)


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
