"""Repair input files: write them back, or show what would change."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.render.color import PLAIN, Colors
from schemas.atomic import write_text
from schemas.terminal import one_line

if TYPE_CHECKING:
    from schemas.diagnostics import Diagnostic


@dataclass(frozen=True, slots=True)
class Repair:
    """What fixes make of a file.

    Args:
        name: The file's name.
        before: Its text.
        after: Its text with the fixes.
        applied: The diagnostics that were fixed.
    """

    name: str
    before: str
    after: str
    applied: "list[Diagnostic]"

    def diff(self, colors: Colors = PLAIN) -> Iterator[str]:
        """Yield the lines of a unified diff."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), self.name, self.name, lineterm=""
        )
        for line in map(one_line, lines):
            if line.startswith("+"):
                yield colors.added(line)
            elif line.startswith("-"):
                yield colors.removed(line)
            else:
                yield line

    def write(self) -> None:
        """Write the text back at once or not at all; a file that stays as it is, is not touched."""
        if self.after != self.before:
            write_text(Path(self.name), self.after)


def repair(text: str, name: str, overrides: Sequence[str], *, unsafe: bool) -> Repair:
    """Return what the fixes of a text make of it."""
    from schemas.check import check_text
    from schemas.fixes import fix_text

    fixed = fix_text(text, name, unsafe=unsafe, check=lambda new: check_text(new, name, overrides))
    return Repair(name, text, fixed.text, fixed.applied)
