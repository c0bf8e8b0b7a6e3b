"""The texts on codes: why a fault matters, an example, what to do."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from schemas.base.names import nearest
from schemas.check.rule import RULES

_FOLDER = Path(__file__).parent
REMOVED = "<remove>"
"""Stands for the absence of a key in an example."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What there is to know about a code.

    Args:
        code: The code.
        meaning: One sentence: what is wrong, or what the rule demands.
        why: Why it matters.
        fix: What to do.
        text: A text with the fault.
        changes: Dotted paths and values that put the fault into a good input.
        right: The same paths with values that are right.
        base: Which good input: of a single task or multi-task.
        situation: The fault in words, where it is not in the input alone.
        start: The checkpoint that is started from: `option`, `branch`, `branches`, `steps`.
        right_start: How it would be right.
        wrong_text: The fault as a command, a file or a piece of an input, if only shown.
        right_text: The same without the fault.
    """

    code: str
    meaning: str
    why: str
    fix: str
    text: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    right: dict[str, Any] = field(default_factory=dict)
    base: str = "single-task"
    situation: str | None = None
    start: dict[str, Any] = field(default_factory=dict)
    right_start: dict[str, Any] | None = None
    wrong_text: str | None = None
    right_text: str | None = None

    def example(self) -> str:
        """Return the fault in words, as text, and what is right in its place."""
        wrong = [self.wrong_text] if self.wrong_text is not None else []
        if self.text is not None:
            wrong = [self.text.replace("\ufeff", "<byte order mark>") or "(an empty file)"]
        wrong += [_shown(path, value) for path, value in self.changes.items()]
        right = [self.right_text] if self.right_text is not None else []
        right += [_shown(path, value) for path, value in self.right.items()]
        if self.right_start is not None:
            right.append(_command(self.right_start))
        lines = [self.situation] if self.situation is not None else []
        if self.start and self.right_start is None:
            lines.append(f"with `{_command(self.start)}`:")
        elif self.start:
            wrong.append(_command(self.start))
        lines += [f"wrong: {line}" for line in wrong]
        lines += [f"right: {line}" for line in right]
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return the entry as the JSON document of `zoo explain --json`."""
        return {
            "code": self.code,
            "meaning": self.meaning,
            "why": self.why,
            "example": self.example(),
            "fix": self.fix,
        }


def _shown(path: str, value: Any) -> str:
    import json

    section, _, key = path.rpartition(".")
    where = f"in {section}: " if section else ""
    return f'{where}no "{key}"' if value == REMOVED else f'{where}"{key}": {json.dumps(value)}'


def _command(start: dict[str, Any]) -> str:
    options = f" {start['option']} model.pt" if start else ""
    branch = f" --branch {start['branch']}" if "branch" in start else ""
    return f"zoo validate input.json{options}{branch}"


@cache
def entries() -> dict[str, Entry]:
    """Return every entry by its code; the meaning of a rule is what it demands."""
    import schemas.check.task  # noqa: F401 - registers the rules

    demands = {rule.code: rule.demand for rule in RULES}
    found: dict[str, Entry] = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        for code, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            found[code] = Entry(code, table.pop("meaning", demands.get(code)), **table)
    return found


def nearest_code(word: str) -> str | None:
    """Return the code most like a word."""
    return nearest(word.upper(), entries())
