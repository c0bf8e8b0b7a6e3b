"""Progress of a run for people: a live bar on a terminal or in a notebook, else plain lines."""

import datetime as dt
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from schemas.terminal import console, harmless

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Metrics = Mapping[str, float]

_SECONDS_BETWEEN_REFRESHES = 1.0
_SPEED_MEMORY = 0.1  # weight of the newest interval in the averaged speed


class Progress:
    """Says nothing; the base of what does, and the choice of `progress=False`.

    Args:
        start_step: Steps already done.
        num_steps: Steps in all.
    """

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
        return False

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
        if time.monotonic() - self._last_refresh >= _SECONDS_BETWEEN_REFRESHES:
            self._measure(step)

    def line(self, text: str) -> None:
        """Write the line."""
        sys.stderr.write(harmless(text) + "\n")
        sys.stderr.flush()


class BarProgress(Progress):
    """A live bar below the log lines, on stderr."""

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

    @property
    def wants_metrics(self) -> bool:
        """True once a second."""
        return time.monotonic() - self._last_refresh >= _SECONDS_BETWEEN_REFRESHES

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

    def __init__(self, start_step: int, num_steps: int) -> None:
        super().__init__(start_step, num_steps)
        from IPython.display import display

        self._handle: Any = display({"text/plain": "training"}, raw=True, display_id=True)

    @property
    def wants_metrics(self) -> bool:
        """True once a second."""
        return time.monotonic() - self._last_refresh >= _SECONDS_BETWEEN_REFRESHES

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
    if console(sys.stderr).is_terminal and sys.stderr.isatty():
        return BarProgress(start_step, num_steps)
    return LineProgress(start_step, num_steps)


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this (without importing IPython for the question)."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
