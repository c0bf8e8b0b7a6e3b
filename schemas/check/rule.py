"""What a rule is and how it is registered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from schemas.base.diagnostics import Group, Path, Severity


@dataclass(frozen=True, slots=True)
class Fault:
    """What a rule found; the rule's code is added by the runner.

    Args:
        path: Dotted path of the value at fault, or its parts.
        message: One short sentence without a full stop.
        hint: What to do, in the user's words.
        severity: `error`, `warning` or `note`.
        at: Whether the key or the value is marked.
        fix: Text to put in the place of the marked text.
        safe: Whether the fix keeps what the file means beyond doubt.
        related_paths: Labels and paths of other places that belong to it.
        group: Of which fault it may be a repetition.
        for_deepmd: Its severity for a user of deepmd-kit, where that is another.
    """

    path: str | Path
    message: str
    hint: str | None = None
    severity: Severity = "error"
    at: Literal["key", "value"] = "value"
    fix: str | None = None
    safe: bool = True
    related_paths: tuple[tuple[str, Path], ...] = ()
    group: Group | None = None
    for_deepmd: Severity | None = None

    @property
    def parts(self) -> Path:
        """The path as keys and indices."""
        return tuple(self.path.split(".")) if isinstance(self.path, str) else self.path


Scope = Literal["input", "single-task", "multi-task", "start"]
"""What a rule looks at.

`input`: an `Input`, be it one branch of several; `single-task`: an `Input` that is no branch;
`multi-task`: all branches at once (`schemas.input.branches.Draft`); `start`: an `Input` and the
checkpoint from which it starts (`schemas.input.start.Departure`).
"""

RuleFunction = Callable[[Any], Iterator[Fault]]


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


def note(path: str | Path, message: str, hint: str | None = None) -> Fault:
    """Return what is not wrong but good to know."""
    return Fault(path, message, hint, severity="note")


def warning(path: str | Path, message: str, hint: str | None = None) -> Fault:
    """Return a fault with which training can go on."""
    return Fault(path, message, hint, severity="warning")
