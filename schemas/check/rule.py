"""Rules between values: a function, or a row of a table, for each code."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.base.diagnostics import Finding, Path, Severity
from schemas.input.start import StartOption
from schemas.input.view import UnusableError

Scope = Literal["input", "single-task", "multi-task", "start", "checkpoint"] | StartOption
"""What a rule looks at.

`input`: an `Input`, be it one branch of several; `single-task`: an `Input` that is no branch;
`multi-task`: all branches at once (`schemas.input.branches.Draft`); `start`: what a run starts
from (`schemas.input.start.RunStart`); `checkpoint`: the same if that is a checkpoint; an option:
if that names it.
"""

RuleFunction = Callable[[Any], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A registered rule: its code, what it demands, its function and what that looks at."""

    code: str
    demand: str
    find: RuleFunction
    scope: Scope = "input"


RULES: list[Rule] = []


def rule(
    code: str, demand: str, *, scope: Scope = "input"
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as a rule under a code, with the sentence that it enforces."""

    def register(find: RuleFunction) -> RuleFunction:
        RULES.append(Rule(code, demand, find, scope))
        return find

    return register


def run_rules(subject: Any, *scopes: Scope) -> list[Finding]:
    """Return what the rules of some scopes find wrong with what they look at.

    An input may be partial (`schemas.input.view`): a rule that needs a value that is missing or
    faulty itself ends there.
    """
    found: list[Finding] = []
    for item in RULES:
        if item.scope in scopes:
            with suppress(UnusableError):
                found.extend(replace(finding, code=item.code) for finding in item.find(subject))
    return found


def fault(
    path: str | Path,
    message: str,
    hint: str | None = None,
    severity: Severity = "error",
    **more: Any,
) -> Finding:
    """Return what a rule found; the rule's code is added when it runs.

    Args:
        path: Dotted path of the value at fault, or its parts.
        message: One short sentence without a full stop.
        hint: What to do, in the user's words.
        severity: `error`, `warning` or `note`.
        more: Other attributes of the finding.
    """
    parts: Path = tuple(path.split(".")) if isinstance(path, str) else path
    return Finding("", parts, message, hint, severity=severity, **more)


def note(path: str | Path, message: str, hint: str | None = None, **more: Any) -> Finding:
    """Return what is not wrong but good to know."""
    return fault(path, message, hint, "note", **more)


def warning(path: str | Path, message: str, hint: str | None = None, **more: Any) -> Finding:
    """Return a fault with which training can go on."""
    return fault(path, message, hint, "warning", **more)
