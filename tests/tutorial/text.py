"""docs/tutorial.md as a script: its commands, and the excerpts of output that it shows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
OMISSION = "..."

_FENCE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"(?<![A-Za-z])[-+]?(\d+(?:,\d{3})*\.?\d*|\.\d+)([eE][-+]?\d+)?(?![A-Za-z])")
_DIGEST = re.compile(r"\b[0-9a-f]{12,64}\b")
_STEPS = re.compile(r"(training\.numb_steps=|--steps )\d+")


@dataclass(frozen=True, slots=True)
class Step:
    """Commands, and what the tutorial shows of their output.

    Attributes:
        commands: Lines for a shell.
        shown: Lines of output, some left out; empty where nothing is shown.
        place: First and last character of these lines in the text.
    """

    commands: str
    shown: list[str]
    place: tuple[int, int] | None


def steps(text: str) -> Iterator[Step]:
    """Yield every block of commands with the block of output right after it."""
    fences = list(_FENCE.finditer(text))
    for i, fence in enumerate(fences):
        if fence[1] != "sh":
            continue
        after = fences[i + 1] if i + 1 < len(fences) else None
        if (
            after is not None
            and after[1] == "text"
            and not text[fence.end() : after.start()].strip()
        ):
            yield Step(fence[2], after[2].splitlines(), after.span(2))
        else:
            yield Step(fence[2], [], None)


def shortened(commands: str) -> str:
    """Return the commands with two training steps instead of many."""
    return _STEPS.sub(lambda match: f"{match[1]}2", commands)


def words(line: str) -> str:
    """Return what of a line of output does not depend on the run: all but numbers and spacing."""
    return re.sub(r"[\s─━|]+", " ", _NUMBER.sub("#", _DIGEST.sub("#", line))).strip()


def matched(shown: list[str], printed: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield every shown line with the printed one that has its words, in order, or with None."""
    start = 0
    for line in shown:
        if line.strip() in ("", OMISSION):
            yield line, line
            continue
        wanted = words(line)
        found = next((i for i in range(start, len(printed)) if words(printed[i]) == wanted), None)
        if found is None:
            yield line, None
        else:
            yield line, printed[found]
            start = found + 1
