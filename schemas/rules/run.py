"""Run every rule over an input."""

from collections.abc import Iterator
from typing import Any

from schemas.diagnostics import Finding
from schemas.partial import UnusableError
from schemas.rules import (  # noqa: F401 - importing a subject registers its rules
    architecture,
    branch_names,
    branches,
    effect,
    elements,
    geometry,
    labels,
    loss,
    outputs,
    overridden,
    ranges,
    restart,
    sampling,
    schedule,
    sharing,
    start_model,
    start_run,
    systems,
    training,
)
from schemas.rules.rule import RULES, Rule, Scope


def run_rules(subject: Any, scope: Scope = "input") -> list[Finding]:
    """Return what the rules of a scope find wrong with what they look at.

    An input may be partial (`schemas.partial`): a rule that needs a value that is missing or
    faulty itself ends there.
    """
    return [
        finding for rule in RULES if rule.scope == scope for finding in _findings(rule, subject)
    ]


def _findings(rule: Rule, subject: Any) -> Iterator[Finding]:
    try:
        for fault in rule.find(subject):
            yield Finding(
                rule.code,
                fault.parts,
                fault.message,
                fault.hint,
                severity=fault.severity,
                at=fault.at,
                fix=fault.fix,
                safe=fault.safe,
                related_paths=fault.related_paths,
                group=fault.group,
                for_deepmd=fault.for_deepmd,
            )
    except UnusableError:
        return
