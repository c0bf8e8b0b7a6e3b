"""What was found in an input: findings placed in the text, repetitions of one fault as one."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from schemas.base.diagnostics import (
    Diagnostic,
    Edit,
    Finding,
    Fix,
    Move,
    Path,
    Related,
    Remove,
    Rewrite,
    Span,
)
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import Start, Target
from schemas.input.view import starts_with
from schemas.text.document import Document, fix_of, related_places

HERE_TOO = "here too"
"""The label of a place where nothing else is to be said."""
_MOST_PLACES = 40
"""More places than this are only counted."""
_MANY = 4
"""So many findings of one code at the same key of list items or branches are one fault."""
_MANY_KEYS = 10
"""So many keys of one section with a fault of one code are one fault."""
_NAMED = {"model_dict", "shared_dict", "loss_dict", "data_dict", "model_prob", "num_epoch_dict"}
"""Objects whose keys are names, of branches or of shared parts."""


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
        again: Returns the report with more findings in it; None if the file was not read.
    """

    name: str
    lines: list[str] = field(repr=False)
    config: Input | MultiTaskInput | None
    diagnostics: list[Diagnostic]
    targets: Sequence[Target] = field(default=(), repr=False)
    start: Start | None = field(default=None, repr=False)
    again: "Callable[[Sequence[Finding]], Report] | None" = field(default=None, repr=False)

    def extend(self, more: Sequence[Finding]) -> "Report":
        """Return the report with more findings in it, such as those of the data."""
        return self.again(more) if more and self.again is not None else self

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


@dataclass(frozen=True, slots=True)
class _Placed:
    """A finding and the diagnostic that is made of it."""

    finding: Finding
    diagnostic: Diagnostic


def placed(
    document: Document,
    findings: Sequence[Finding],
    moved: Mapping[Path, Path],
    overridden: Sequence[Path],
) -> list[Diagnostic]:
    """Return findings placed in the text and sorted, repetitions of one fault as one.

    Args:
        document: The text.
        findings: What was found in it.
        moved: The path in the file of what an earlier version has elsewhere.
        overridden: Paths of values that are not those of the file.
    """
    items: dict[tuple[str, Path, str, Span | None], _Placed] = {}
    textual = {item.path for item in document.findings if item.code == "ZOO005"}
    renamed = {(*item.path[:-1], item.fix) for item in findings if item.code == "ZOO102"}
    for finding in findings:
        if finding.path in textual and finding not in document.findings:
            continue  # the text says it better
        if finding.code == "ZOO101" and finding.path in renamed:
            continue  # missing because it is misspelt
        path = _original(finding.path, moved)
        item = _diagnostic(document, finding, path, any(starts_with(path, x) for x in overridden))
        items.setdefault((item.code, path, item.message, finding.span), _Placed(finding, item))
    return _merged(document, sorted(items.values(), key=lambda item: _position(item.diagnostic)))


def _diagnostic(document: Document, finding: Finding, path: Path, is_set: bool) -> Diagnostic:
    """Return a finding at its place; there is none in the text for what `--set` wrote."""
    span = None if is_set else finding.span or _locate(document, path, finding.at)
    fix = None if is_set else fix_of(document, finding, path, span)
    hint = finding.hint
    if document.is_yaml and isinstance(finding.fix, (Move, Rewrite)) and fix is None:
        by_hand = "--fix cannot do this in YAML of this form"
        hint = f"{hint} ({by_hand})" if hint else by_hand
    return Diagnostic(
        finding.code,
        finding.severity,
        finding.message + (" (from --set)" if is_set else ""),
        path,
        span,
        hint,
        fix,
        related_places(document, finding),
        for_deepmd=finding.for_deepmd,
    )


def _original(path: Path, moved: Mapping[Path, Path]) -> Path:
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


def _merged(document: Document, items: Sequence[_Placed]) -> list[Diagnostic]:
    """Return the diagnostics of what was found, sorted by position; those of a group as one."""
    keys: list[tuple[Hashable, ...]] = [_key(item, number) for number, item in enumerate(items)]
    for shapes, many in (
        ([_shape(item, item.diagnostic.path) for item in items], _MANY),
        ([_shape(item, item.diagnostic.path[:-1]) for item in items], _MANY_KEYS),
    ):
        often = _often(zip(shapes, keys, strict=True), many)
        keys = [shape if shape in often else key for shape, key in zip(shapes, keys, strict=True)]
    groups: dict[tuple[Hashable, ...], list[_Placed]] = {}
    for key, item in zip(keys, items, strict=True):
        groups.setdefault(key, []).append(item)
    return [
        members[0].diagnostic if len(members) == 1 else _one_for_all(document, members)
        for members in groups.values()
    ]


def _key(item: _Placed, number: int) -> tuple[Hashable, ...]:
    group = item.finding.group
    if group is None:
        return (number,)
    return (item.diagnostic.severity, item.finding.for_deepmd, *group.key(item.diagnostic.path))


def _shape(item: _Placed, path: Path) -> tuple[Hashable, ...]:
    """Return what a finding has in common with those at other items of a list, in other branches.

    Args:
        item: The finding.
        path: Where it is, or in which section.
    """
    group = item.finding.group
    name = ""
    if group is not None:
        name, path = group.key(item.diagnostic.path)
    places: list[Hashable] = []
    for above, part in zip((None, *path), path, strict=False):
        places.append("*" if isinstance(part, int) or above in _NAMED else part)
    finding = item.finding
    return (item.diagnostic.severity, finding.for_deepmd, finding.code, name, *places)


def _often(
    pairs: Iterable[tuple[tuple[Hashable, ...], tuple[Hashable, ...]]], many: int
) -> set[tuple[Hashable, ...]]:
    """Return the shapes that many different keys have."""
    counts = Counter(shape for shape, _ in set(pairs))
    return {shape for shape, number in counts.items() if number >= many}


def _one_for_all(document: Document, members: Sequence[_Placed]) -> Diagnostic:
    first, others = members[0].diagnostic, [item.diagnostic for item in members[1:]]
    told = {place.label for place in first.related}
    related = [
        *first.related,
        *(
            Related(_label(first, item), item.span)
            for item in others[:_MOST_PLACES]
            if item.message not in told
        ),
    ]
    if len(others) > _MOST_PLACES:
        related.append(Related(f"and {len(others) - _MOST_PLACES} more", None))
    return replace(
        first,
        message=f"{first.message} (and {len(others)} more)",
        related=tuple(related),
        fix=_fix_of_all(document, members),
        repeated=tuple(item.path for item in others),
    )


def _label(first: Diagnostic, item: Diagnostic) -> str:
    if item.message == first.message:
        return HERE_TOO
    return f"{item.message}: {item.hint}" if item.hint and item.hint != first.hint else item.message


def _fix_of_all(document: Document, members: Sequence[_Placed]) -> Fix | None:
    """Return one fix for as many members as possible; safe ones go before the others."""
    changes = [item.finding.fix for item in members]
    moves = [change for change in changes if isinstance(change, Move)]
    first = members[0]
    if len(moves) == len(changes):
        pairs = tuple(dict.fromkeys(pair for change in moves for pair in change.pairs))
        drop = tuple(dict.fromkeys(path for change in moves for path in change.drop))
        add = tuple(dict.fromkeys(item for change in moves for item in change.add))
        return _restructured(document, first, Move(pairs, drop, add))
    if all(isinstance(change, Remove) for change in changes):
        places = [item.diagnostic.path for item in members]
        drop = tuple(path for path in dict.fromkeys(places) if path in document.keys)
        return _restructured(document, first, Move((), drop)) if drop else None
    fixes = [item.diagnostic.fix for item in members if item.diagnostic.fix is not None]
    fixes = [fix for fix in fixes if fix.safe] or fixes
    if not fixes:
        return None
    edits: list[Edit] = []
    used = 0
    for fix in sorted(fixes, key=lambda fix: fix.edits[0].span):
        if not edits or _is_before(edits[-1].span, fix.edits[0].span):
            edits += fix.edits
            used += 1
    title = fixes[0].title if used == 1 else f"{fixes[0].title}, and the same in {used - 1} more"
    return Fix(title, tuple(edits), all(fix.safe for fix in fixes))


def _restructured(document: Document, first: _Placed, change: Move) -> Fix | None:
    finding = replace(first.finding, fix=change)
    return fix_of(document, finding, first.diagnostic.path, first.diagnostic.span)


def _is_before(first: Span, second: Span) -> bool:
    return (first.end_line, first.end_col) <= (second.line, second.col) and first != second
