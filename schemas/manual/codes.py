"""The texts on codes: why a fault matters, an example, what to do."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from schemas.diagnostics import CODES
from schemas.rules.rule import RULES
from schemas.suggest import nearest

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
        base: Which good input: of a single task or multi-task.
        situation: The fault in words, where it is not in the input alone.
    """

    code: str
    meaning: str
    why: str
    fix: str
    text: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    base: str = "single-task"
    situation: str | None = None

    def example(self) -> str:
        """Return the fault as text."""
        if self.text is not None:
            return self.text.replace("\ufeff", "<byte order mark>") or "(an empty file)"
        if self.situation is not None:
            return self.situation
        return "\n".join(_shown(path, value) for path, value in self.changes.items())

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


@cache
def entries() -> dict[str, Entry]:
    """Return every entry by its code."""
    known = meanings()
    found: dict[str, Entry] = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        for code, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            found[code] = Entry(code, known.get(code, table["why"]), **table)
    return found


def meanings() -> dict[str, str]:
    """Return what each code means, in one sentence, for every code in the tables."""
    import schemas.rules.run  # noqa: F401 - registers the rules

    return CODES | {rule.code: rule.demand for rule in RULES}


def nearest_code(word: str) -> str | None:
    """Return the code most like a word."""
    return nearest(word.upper(), entries())
