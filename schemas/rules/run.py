"""Run every rule over an input."""

from collections.abc import Iterator

from schemas.diagnostics import Finding
from schemas.input import Input
from schemas.partial import UnusableError
from schemas.rules import (  # noqa: F401 - importing a subject registers its rules
    architecture,
    effect,
    elements,
    geometry,
    labels,
    loss,
    sampling,
    schedule,
    systems,
    training,
)
from schemas.rules.data_folders import systems_below
from schemas.rules.rule import RULES, Rule


def run_rules(config: Input) -> list[Finding]:
    """Return what the rules find wrong.

    The input may be partial (`schemas.partial`): a rule that needs a value that is missing or
    faulty itself ends there.
    """
    systems_below.cache_clear()  # folders may have changed since the last check
    return [finding for rule in RULES for finding in _findings(rule, config)]


def _findings(rule: Rule, config: Input) -> Iterator[Finding]:
    try:
        for fault in rule.find(config):
            yield Finding(
                rule.code,
                fault.parts,
                fault.message,
                fault.hint,
                severity=fault.severity,
                at=fault.at,
            )
    except UnusableError:
        return
