"""Findings that only follow from others: one fault of the user's is said once."""

from collections import Counter
from collections.abc import Sequence

from schemas.diagnostics import Finding, Path, dotted
from schemas.input import Input
from schemas.outline import sections_of
from schemas.section import aliases

_FLAT = ("repinit_", "repformer_")


def without_consequences(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings of one task without those that follow from others.

    A section is not missing if it is in another place, or if its keys are there in the flat
    layout of 3.0 alpha; a key of a schedule or optimiser is not unknown if only the type of that
    is.
    """
    unknown = [item for item in findings if item.code == "ZOO102"]
    misplaced = {item.path[-1] for item in unknown}
    flat = [item for item in unknown if str(item.path[-1]).startswith(_FLAT)]
    flattened = {str(item.path[-1]).partition("_")[0] for item in flat}
    elsewhere = Counter((item.group.name, item.path[:-1]) for item in unknown if item.group)
    guessed = {item.path[0] for item in findings if item.code == "ZOO105" and _is_type(item)}
    kept = []
    for item in findings:
        missing = item.code == "ZOO101" and item.path
        if missing and item.path[-1] in misplaced | flattened:
            continue
        if missing and any(
            count > 1 and _covers(name, item.path) and item.path[:-1] == section
            for (name, section), count in elsewhere.items()
        ):
            continue
        if item in flat[1:]:
            continue  # the first speaks for all
        if item.code == "ZOO102" and item.path[0] in guessed and _of_a_variant(item):
            continue
        kept.append(item)
    return kept


def _covers(group: str, path: Path) -> bool:
    """Return whether keys of a group, side by side, are what a missing block should hold."""
    if path[-1] not in ("repinit", "repformer"):
        return False
    homes = group.removeprefix("keys of ").split(" and ")
    return dotted(path) in homes or "." not in group


def _is_type(item: Finding) -> bool:
    return len(item.path) == 2 and item.path[1] == "type"


def _of_a_variant(item: Finding) -> bool:
    """Return whether some kind of the section has the key."""
    return any(
        item.path[-1] in {*section.model_fields, *aliases(section)}
        for section in sections_of(Input.model_fields[str(item.path[0])].annotation)
    )
