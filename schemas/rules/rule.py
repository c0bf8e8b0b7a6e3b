"""What a rule is and how it is registered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.diagnostics import Path, Severity
from schemas.input import Input


@dataclass(frozen=True, slots=True)
class Fault:
    """What a rule found; the rule's code is added by the runner.

    Args:
        path: Dotted path of the value at fault, or its parts.
        message: One short sentence without a full stop.
        hint: What to do, in the user's words.
        severity: `error`, `warning` or `note`.
        at: Whether the key or the value is marked.
    """

    path: str | Path
    message: str
    hint: str | None = None
    severity: Severity = "error"
    at: Literal["key", "value"] = "value"

    @property
    def parts(self) -> Path:
        """The path as keys and indices."""
        return tuple(self.path.split(".")) if isinstance(self.path, str) else self.path


RuleFunction = Callable[[Input], Iterator[Fault]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A registered rule: its code, what it demands, and its function."""

    code: str
    demand: str
    find: RuleFunction


RULES: list[Rule] = []


def rule(code: str, demand: str) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as a rule under a code, with the sentence that it enforces."""

    def register(find: RuleFunction) -> RuleFunction:
        RULES.append(Rule(code, demand, find))
        return find

    return register


def warning(path: str | Path, message: str, hint: str | None = None) -> Fault:
    """Return a fault with which training can go on."""
    return Fault(path, message, hint, severity="warning")
