"""Run every rule over an input."""

from collections.abc import Iterator
from typing import Any

from schemas.base.diagnostics import Finding
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
from schemas.check.rule import RULES, Rule, Scope
from schemas.input.view import UnusableError


def run_rules(subject: Any, scope: Scope = "input") -> list[Finding]:
    """Return what the rules of a scope find wrong with what they look at.

    An input may be partial (`schemas.input.view`): a rule that needs a value that is missing or
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
