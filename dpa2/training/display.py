"""What people see of a running training: `lcurve.out`, a progress bar or lines, TensorBoard."""

import datetime as dt
import importlib.util
import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dpa2.training.task import Metrics, Task, as_numbers
from schemas.base.errors import TrainingError
from schemas.base.terminal import console, harmless
from schemas.base.writing import append_text, write_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


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


_SECONDS_BETWEEN_REFRESHES = 1.0
_SPEED_MEMORY = 0.1  # weight of the newest interval in the averaged speed


class Progress:
    """Says nothing; the base of what does, and the choice of `progress=False`.

    Args:
        start_step: Steps already done.
        num_steps: Steps in all.
    """

    is_live = False

    def __init__(self, start_step: int, num_steps: int) -> None:
        self.start_step = start_step
        self.num_steps = num_steps
        self.began = time.monotonic()
        self._last_refresh = self.began
        self._last_step = start_step
        self._seconds_per_step: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do."""

    @property
    def wants_metrics(self) -> bool:
        """Whether it is time to show fresh numbers (once a second where they are shown live)."""
        return self.is_live and self._is_stale

    @property
    def _is_stale(self) -> bool:
        return time.monotonic() - self._last_refresh >= _SECONDS_BETWEEN_REFRESHES

    def advance(self, step: int, metrics: Metrics | None = None) -> None:
        """Note that `step` steps are done; `metrics` where fresh numbers were asked for."""

    def line(self, text: str) -> None:
        """Show a line of the log."""

    def remaining(self, step: int) -> dt.timedelta | None:
        """Return the expected time to the end; None before the first interval."""
        if self._seconds_per_step is None:
            return None
        return dt.timedelta(seconds=int(self._seconds_per_step * (self.num_steps - step)))

    def _measure(self, step: int) -> None:
        """Update the averaged time of a step."""
        now = time.monotonic()
        steps = step - self._last_step
        if steps <= 0:
            return
        seconds = (now - self._last_refresh) / steps
        old = self._seconds_per_step
        self._seconds_per_step = seconds if old is None else old + _SPEED_MEMORY * (seconds - old)
        self._last_refresh, self._last_step = now, step

    def _summary(self, step: int, metrics: Metrics) -> str:
        numbers = "  ".join(f"{name} {value:.2e}" for name, value in sorted(metrics.items()))
        speed, remaining = self._seconds_per_step, self.remaining(step)
        if speed is None or remaining is None:
            return numbers
        pace = f"{1 / speed:.1f} steps/s" if 0 < speed < 1 else f"{speed:.2f} s/step"
        return f"{numbers}  {pace}  {remaining} left"


class LineProgress(Progress):
    """Plain lines on stderr, one per display step."""

    def advance(self, step: int, metrics: Metrics | None = None) -> None:  # noqa: ARG002
        """Keep the clock."""
        if self._is_stale:
            self._measure(step)

    def line(self, text: str) -> None:
        """Write the line."""
        sys.stderr.write(harmless(text) + "\n")
        sys.stderr.flush()


class BarProgress(Progress):
    """A live bar below the log lines, on stderr."""

    is_live = True

    def __init__(self, start_step: int, num_steps: int) -> None:
        super().__init__(start_step, num_steps)
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar: RichProgress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[summary]}", markup=False),
            console=console(sys.stderr),
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._bar.add_task(
            "training", total=num_steps, completed=start_step, summary=""
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, step: int, metrics: Metrics | None = None) -> None:
        """Move the bar."""
        if metrics is None:
            self._bar.update(self._task, completed=step)
            return
        self._measure(step)
        self._bar.update(self._task, completed=step, summary=self._summary(step, metrics))

    def line(self, text: str) -> None:
        """Write the line above the bar."""
        self._bar.console.print(text, markup=False, soft_wrap=True)


class NotebookProgress(Progress):
    """One line of text that a notebook updates in place; needs no widgets."""

    is_live = True

    def __init__(self, start_step: int, num_steps: int) -> None:
        super().__init__(start_step, num_steps)
        from IPython.display import display

        self._handle: Any = display({"text/plain": "training"}, raw=True, display_id=True)

    def advance(self, step: int, metrics: Metrics | None = None) -> None:
        """Rewrite the line."""
        if metrics is None and step < self.num_steps:
            return
        self._measure(step)
        done = 24 * step // max(self.num_steps, 1)
        bar = "#" * done + "." * (24 - done)
        text = f"[{bar}] {step}/{self.num_steps}  {self._summary(step, metrics or {})}"
        self._handle.update({"text/plain": text}, raw=True)


def choose_progress(start_step: int, num_steps: int, *, shown: bool = True) -> Progress:
    """Return the form of progress that fits where stderr leads."""
    if not shown:
        return Progress(start_step, num_steps)
    if _in_notebook():
        return NotebookProgress(start_step, num_steps)
    if sys.stderr.isatty() and console(sys.stderr).is_terminal:  # rich is imported if need be
        return BarProgress(start_step, num_steps)
    return LineProgress(start_step, num_steps)


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this (without importing IPython for the question)."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


_COUNT = "steps"


@dataclass
class Display:
    """Rows and lines at step 1 and at every multiple of `disp_freq`.

    Attributes:
        config: The checked `training` section.
        curve: The open `lcurve.out`.
        progress: Where lines go.
        window: Sums of errors since the last row, by branch; filled only with `disp_avg`.
        tasks: The branches.
    """

    config: Any
    curve: LearningCurve
    progress: Progress
    window: dict[str, dict[str, float]]
    tasks: Mapping[str, Task]
    _last_time: float = field(default_factory=time.monotonic)

    def due(self, step: int) -> bool:
        """Return whether a row belongs to this step (counted from 1)."""
        return bool(self.config.disp_training) and (
            step == 1 or step % int(self.config.disp_freq) == 0
        )

    def collect(self, task: Task, metrics: Mapping[str, Any]) -> None:
        """Add the errors of a step to the averages (`disp_avg`)."""
        sums = self.window.setdefault(task.name, {})
        for name, value in as_numbers(metrics).items():
            sums[name] = sums.get(name, 0.0) + value
        sums[_COUNT] = sums.get(_COUNT, 0.0) + 1.0

    def show(self, step: int, task: Task, metrics: Metrics, learning_rate: float) -> None:
        """Write the row and the lines of a step; looks at all branches first.

        Args:
            step: Counted from 1.
            task: The branch that was trained.
            metrics: Its errors.
            learning_rate: Of the step.
        """
        trained: dict[str, Metrics] = {}
        validated: dict[str, Metrics] = {}
        for name, one in self.tasks.items():
            if self.config.disp_avg:
                trained[name] = self._average(one) or one.look(learning_rate)
            else:
                trained[name] = metrics if one is task else one.look(learning_rate)
            # deepmd-kit's averaged rows of several branches have no validation columns
            if len(self.tasks) == 1 or not self.config.disp_avg:
                validated[name] = one.validate(learning_rate)
        self.curve.add(step, learning_rate, trained, validated)
        for name, errors in trained.items():
            label = "" if len(self.tasks) == 1 else f"{name}_"
            for kind, shown in (("trn", errors), ("val", validated.get(name))):
                if shown:
                    numbers = ", ".join(f"{key} = {shown[key]:8.2e}" for key in sorted(shown))
                    rate = f", lr = {learning_rate:8.2e}" if kind == "trn" else ""
                    self.progress.line(f"Batch {step:7d}: {label}{kind}: {numbers}{rate}")
        if self.config.time_training:
            now = time.monotonic()
            seconds, self._last_time = now - self._last_time, now
            line = f"Batch {step:7d}: total wall time = {seconds:.2f} s"
            remaining = self.progress.remaining(step)
            if remaining is not None:
                end = dt.datetime.now().astimezone() + remaining
                line += f", eta = {remaining} at {end:%Y-%m-%d %H:%M}"
            self.progress.line(line)

    def _average(self, task: Task) -> Metrics:
        sums = self.window.pop(task.name, None)
        if sums is None:  # never trained since the last row
            return {}
        count = sums.pop(_COUNT)
        return {name: total / count for name, total in sums.items()}


class TensorBoard:
    """Curves for TensorBoard, under deepmd-kit's tags.

    Args:
        folder: Where the event files go.
        every: Steps between two points.

    Raises:
        TrainingError: When the package is not installed.
    """

    def __init__(self, folder: Path, every: int) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise TrainingError(
                "training.tensorboard is on, but the package tensorboard is not installed",
                hint="pip install 'dpa-zoo[tensorboard]', or set training.tensorboard to false",
            )
        from torch.utils.tensorboard import SummaryWriter

        self.every = every
        self._writer: Any = SummaryWriter(log_dir=str(folder))

    def due(self, step: int) -> bool:
        """Return whether a point belongs to this step (counted from 1)."""
        return step == 1 or step % self.every == 0

    def add(self, step: int, branch: str, values: Mapping[str, float]) -> None:
        """Write points."""
        for name, value in values.items():
            self._writer.add_scalar(f"{branch}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
