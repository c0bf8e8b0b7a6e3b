"""One task of an input as if it were the whole of it, and where each part of it is written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.diagnostics import Path


@dataclass(frozen=True, slots=True)
class View:
    """The data of a single task.

    A branch of a multi-task input becomes one by putting in what it refers to, so that it can be
    checked, and its faults explained, like any other input.

    Args:
        data: The input of this task alone.
        branch: The branch that it is; None for an input of one task.
        origins: Pairs of a path here and the one in the file, the longest path first.
        hidden: Paths here of which a fault is reported elsewhere.
    """

    data: dict[str, Any]
    branch: str | None = None
    origins: tuple[tuple[Path, Path], ...] = ()
    hidden: tuple[Path, ...] = ()

    def original(self, path: Path) -> Path:
        """Return where in the file a path of this view is written."""
        for here, there in self.origins:
            if starts_with(path, here):
                return (*there, *path[len(here) :])
        return path

    def inside(self, path: Path) -> Iterator[Path]:
        """Yield the paths of this view at which a path of the file appears."""
        taken = False
        for here, there in self.origins:
            if starts_with(path, there):
                taken = True
                yield (*here, *path[len(there) :])
        if not taken:
            yield path


def starts_with(path: Path, ancestor: Path) -> bool:
    """Return whether a path is at or below another."""
    return path[: len(ancestor)] == ancestor
