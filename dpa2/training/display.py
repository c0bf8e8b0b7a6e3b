"""What a run shows of itself: the log, the learning curve, TensorBoard."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpa2.training import messages
from dpa2.training.lcurve import LearningCurve
from dpa2.training.progress import Progress
from dpa2.training.task import Metrics, Task, as_numbers
from schemas.errors import TrainingError

_COUNT = "steps"


class Display:
    """Rows and lines at step 1 and at every multiple of `disp_freq`.

    Args:
        config: The checked `training` section.
        curve: The open `lcurve.out`.
        progress: Where lines go.
        window: Sums of errors since the last row, by branch; filled only with `disp_avg`.
        tasks: The branches.
    """

    def __init__(
        self,
        config: Any,
        curve: LearningCurve,
        progress: Progress,
        window: dict[str, dict[str, float]],
        tasks: Mapping[str, Task],
    ) -> None:
        self.tasks = tasks
        self.config = config
        self.curve = curve
        self.progress = progress
        self.window = window
        self._last_time = time.monotonic()

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
            line = messages.errors_line(step, f"{label}trn", errors, learning_rate)
            self.progress.line(line)
            if validated.get(name):
                self.progress.line(messages.errors_line(step, f"{label}val", validated[name]))
        if self.config.time_training:
            now = time.monotonic()
            seconds, self._last_time = now - self._last_time, now
            line = messages.timing_line(step, seconds, self.progress.remaining(step))
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
