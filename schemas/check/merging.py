"""Repetitions of one fault become one diagnostic that names every place."""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from schemas.base.diagnostics import (
    Diagnostic,
    Edit,
    Finding,
    Fix,
    Move,
    Path,
    Related,
    Remove,
    Severity,
    Span,
)
from schemas.text.document import Document
from schemas.text.edits import fix_of

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
class Placed:
    """A finding and the diagnostic that is made of it."""

    finding: Finding
    diagnostic: Diagnostic


def merged(document: Document, items: Sequence[Placed]) -> list[Diagnostic]:
    """Return the diagnostics, those of a group as one.

    Args:
        document: The text.
        items: What was found, sorted by position.
    """
    keys: list[tuple[Hashable, ...]] = [_key(item, number) for number, item in enumerate(items)]
    for shapes, many in (
        ([_shape(item, item.diagnostic.path) for item in items], _MANY),
        ([_shape(item, item.diagnostic.path[:-1]) for item in items], _MANY_KEYS),
    ):
        often = _often(zip(shapes, keys, strict=True), many)
        keys = [shape if shape in often else key for shape, key in zip(shapes, keys, strict=True)]
    groups: dict[tuple[Hashable, ...], list[Placed]] = {}
    for key, item in zip(keys, items, strict=True):
        groups.setdefault(key, []).append(item)
    return [
        members[0].diagnostic if len(members) == 1 else _one_for_all(document, members)
        for members in groups.values()
    ]


def _key(item: Placed, number: int) -> tuple[Hashable, ...]:
    group = item.finding.group
    if group is None:
        return (number,)
    severity: Severity = item.diagnostic.severity
    return (severity, item.finding.for_deepmd, *group.key(item.diagnostic.path))


def _shape(item: Placed, path: Path) -> tuple[Hashable, ...]:
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


def _one_for_all(document: Document, members: Sequence[Placed]) -> Diagnostic:
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
    return dataclasses.replace(
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


def _fix_of_all(document: Document, members: Sequence[Placed]) -> Fix | None:
    """Return one fix for as many members as possible; safe ones go before the others."""
    changes = [item.finding.fix for item in members]
    moves = [change for change in changes if isinstance(change, Move)]
    removals = [change for change in changes if isinstance(change, Remove)]
    first = members[0]
    if len(moves) == len(changes):
        pairs = tuple(dict.fromkeys(pair for change in moves for pair in change.pairs))
        drop = tuple(dict.fromkeys(path for change in moves for path in change.drop))
        add = tuple(dict.fromkeys(item for change in moves for item in change.add))
        return _restructured(document, first, Move(pairs, drop, add))
    if len(removals) == len(changes):
        paths: tuple[Path, ...] = tuple(path for change in removals for path in change.paths)
        return _restructured(document, first, Remove(paths))
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


def _restructured(document: Document, first: Placed, change: Move | Remove) -> Fix | None:
    finding = dataclasses.replace(first.finding, fix=change)
    return fix_of(document, finding, first.diagnostic.path, first.diagnostic.span)


def _is_before(first: Span, second: Span) -> bool:
    return (first.end_line, first.end_col) <= (second.line, second.col) and first != second
