"""Check one task, or several: sections against the schema, then rules against what is sound."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas.base.diagnostics import Finding, Path, dotted
from schemas.check import (  # noqa: F401 - importing a subject registers its rules
    branches,
    keys,
    loss,
    network,
    restart,
    sampling,
    sharing,
    start,
    systems,
    training,
)
from schemas.check.rule import run_rules
from schemas.check.schema_faults import explain, without_consequences
from schemas.check.scope import foreign_sections, settle_variants, suspicious_comments
from schemas.input.branches import Draft
from schemas.input.paths import as_written
from schemas.input.root import Input, MultiTaskInput
from schemas.input.view import View, partial, starts_with

_SHARED: Path = ("model", "shared_dict")
_OWN_VALUES: tuple[Path, ...] = (("training", "model_prob"), ("training", "num_epoch_dict"))
"""What no branch has, so that only the input as a whole shows what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What one task is found to be.

    Args:
        config: The configuration; None if the schema refuses it.
        sound: The configuration, or the sound part of it (`schemas.input.view`).
        findings: Every fault, at its path in the file.
    """

    config: Input | None
    sound: Input
    findings: list[Finding]


def examine(view: View, textual: Sequence[Path] = ()) -> Examined:
    """Check one task.

    Args:
        view: The task. Unknown types of schedule and optimiser are replaced in it.
        textual: Paths in the file of values that the text itself makes unusable.
    """
    data = view.data
    findings = suspicious_comments(data)
    broken = [here for path in textual for here in view.inside(path)]
    foreign, foreign_places = foreign_sections(data)
    findings += foreign
    findings += settle_variants(data)
    hidden = [*view.hidden, *foreign_places]
    config: Input | None = None
    try:
        config = Input.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            finding = explain(data, details)
            broken.append(finding.path)
            if not any(starts_with(finding.path, path) for path in hidden):
                findings.append(finding)
    broken += hidden
    sound = config if config is not None and not broken else partial(Input, data, broken)
    findings += run_rules(sound)
    if view.branch is None:
        findings += run_rules(sound, "single-task")
    findings = without_consequences(findings)
    return Examined(config, sound, [placed(finding, view) for finding in findings])


def placed(finding: Finding, view: View) -> Finding:
    """Return a finding at its path in the file; its message names the section as the file does."""
    path = view.original(as_written(view.data, finding.path))
    if path == finding.path:
        return finding
    here, there = dotted(finding.path[:-1]), dotted(path[:-1])
    message = finding.message.replace(f"`{here}`", f"`{there}`") if here else finding.message
    return dataclasses.replace(finding, path=path, message=message)


def check_branches(
    draft: Draft, textual: Sequence[Path] = ()
) -> tuple[MultiTaskInput | None, list[Finding]]:
    """Check a multi-task input.

    A fault in a shared part is found in every branch that refers to it, always at the same place
    of the file, and so reported once.

    Args:
        draft: The input; the sound parts of its branches are filled in.
        textual: Paths of values that the text itself makes unusable.

    Returns:
        The configuration, if the schema accepts everything, and every fault; these may be errors
        even so.
    """
    findings: list[Finding] = []
    for view in draft.views:
        assert view.branch is not None
        result = examine(view, textual)
        draft.sound[view.branch] = result.sound
        findings += result.findings
    of_all = run_rules(draft, "multi-task")
    missing_loss = any(item.path == ("loss",) for item in of_all)
    findings = [item for item in findings if not (missing_loss and item.path[:1] == ("loss",))]
    findings += of_all
    config, own = _as_a_whole(draft.expanded())
    findings += own
    return config, findings


def with_users(findings: Sequence[Finding], draft: Draft) -> list[Finding]:
    """Return findings; those within `shared_dict` name the places that refer to the part.

    Faults of the text itself are no concern of any branch.
    """
    users: dict[str, list[tuple[str, Path]]] = {}
    for reference in draft.references:
        place = (f"shared here, by branch `{reference.branch}`", reference.path)
        users.setdefault(reference.name, []).append(place)
    return [_with_places(item, users) for item in findings]


def _with_places(item: Finding, users: Mapping[str, Sequence[tuple[str, Path]]]) -> Finding:
    if item.path[:2] != _SHARED or len(item.path) < 3 or item.code < "ZOO1":
        return item
    places = users.get(str(item.path[2]), ())
    return dataclasses.replace(item, related_paths=(*item.related_paths, *places))


def _as_a_whole(data: dict[str, Any]) -> tuple[MultiTaskInput | None, list[Finding]]:
    """Return the configuration, or what is wrong with the values that no branch has."""
    try:
        return MultiTaskInput.model_validate(data), []
    except ValidationError as error:
        return None, [
            explain(data, details)
            for details in error.errors(include_url=False)
            if any(starts_with(details["loc"], path) for path in _OWN_VALUES)
        ]
