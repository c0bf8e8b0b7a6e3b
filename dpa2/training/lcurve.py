"""`lcurve.out`: the table of errors over the steps, byte for byte as deepmd-kit writes it.

docs/deepmd-format.md, 6.5.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dpa2.training.task import Metrics
from schemas.base.writing import append_text, write_text

_REMARK = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"
SINGLE = "Default"


def format_header(trained: Mapping[str, Metrics], validated: Mapping[str, Metrics]) -> str:
    """Return the two header lines.

    Args:
        trained: Errors on the training batch, by branch (one branch called `Default`: single task).
        validated: Errors on validation data, by branch; empty mappings where there are none.
    """
    line = f"# {'step':5s}"
    for branch, metrics in trained.items():
        suffix = "" if list(trained) == [SINGLE] else f"_{branch}"
        for name in sorted(metrics):
            if validated.get(branch):
                line += f"   {f'{name}_val{suffix}':>11s} {f'{name}_trn{suffix}':>11s}"
            else:
                line += f"   {f'{name}_trn{suffix}':>11s}"
    return f"{line}   {'lr':8s}\n{_REMARK}"


def format_row(
    step: int,
    learning_rate: float,
    trained: Mapping[str, Metrics],
    validated: Mapping[str, Metrics],
) -> str:
    """Return the line of a step (counted from 1)."""
    line = f"{step:7d}"
    for branch, metrics in trained.items():
        on_validation = validated.get(branch)
        for name in sorted(metrics):
            if on_validation:
                line += f"   {on_validation.get(name, math.nan):11.2e} {metrics[name]:11.2e}"
            else:
                line += f"   {metrics[name]:11.2e}"
    return f"{line}   {learning_rate:8.1e}\n"


class LearningCurve:
    """The open file. Rows are flushed at once, so that they can be plotted while training runs.

    Args:
        path: The file.
        resume_after: Steps already done when a run is resumed: later rows of the file, written
            before the interruption, are dropped, so that the curve equals the undisturbed one. None
            starts a new file.
    """

    def __init__(self, path: Path, resume_after: int | None = None) -> None:
        self.path = path
        kept = "" if resume_after is None else rows_until(path, resume_after)
        write_text(path, kept)
        self._header_needed = not kept
        self._stream = path.open("a")

    def add(
        self,
        step: int,
        learning_rate: float,
        trained: Mapping[str, Metrics],
        validated: Mapping[str, Metrics],
    ) -> None:
        """Append the row of a step; the first row of a file brings the header.

        Raises:
            WriteError: When the disk is full.
        """
        text = format_row(step, learning_rate, trained, validated)
        if self._header_needed:
            text = format_header(trained, validated) + text
            self._header_needed = False
        append_text(self._stream, text)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # a row that could not be written was an error already
            self._stream.close()


def rows_until(path: Path, step: int) -> str:
    """Return the lines of a table up to a step, its header included; "" when there is none.

    Comments go with the row before them. A row that was cut short is left out.
    """
    kept, is_kept = [], True
    for line in path.read_text().splitlines(keepends=True) if path.is_file() else ():
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        if first.isdigit():
            is_kept = int(first) <= step
        if is_kept and line.endswith("\n"):
            kept.append(line)
    return "".join(kept)
