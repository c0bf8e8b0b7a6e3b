"""Check one task: its sections against the schema, then the rules against what is sound."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

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
from schemas.input.paths import as_written
from schemas.input.root import Input
from schemas.input.view import View, partial, starts_with


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
