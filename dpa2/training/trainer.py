"""The training loop."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dpa2.io.store import CheckpointStore
from dpa2.training.display import Display, TensorBoard
from dpa2.training.full_validation import FullValidation
from dpa2.training.interrupt import StopRequest
from dpa2.training.nonfinite import FiniteGuard
from dpa2.training.optimizer import clip_gradients, set_learning_rate
from dpa2.training.progress import Progress
from dpa2.training.snapshot import Snapshot
from dpa2.training.task import Task, as_numbers
from schemas.errors import WriteError
from schemas.schedule import Schedule


@dataclass(frozen=True)
class Outcome:
    """How the loop ended.

    Attributes:
        steps_done: Steps behind us, earlier runs included.
        checkpoint: The newest checkpoint.
        metrics: Errors of the last step on its training batch.
        seconds: Wall time of the loop.
        stopped_by: Name of the signal that ended it early, or None.
    """

    steps_done: int
    checkpoint: Path
    metrics: dict[str, float]
    seconds: float
    stopped_by: str | None = None


class Trainer:
    """Runs steps `start_step` to `num_steps` - 1.

    Args:
        config: The checked `training` section.
        tasks: The branches.
        schedule: Learning rates.
        snapshot: Knows what to save.
        store: Where checkpoints go.
        ema_store: Where averaged checkpoints go.
        display: Rows and lines.
        progress: The bar.
        tensorboard: Curves, or None.
        validations: Full validations (of the weights, of their averages) that choose best
            checkpoints.
        finish: Called after the last step, before its checkpoint is written; or None.
    """

    def __init__(
        self,
        config: Any,
        tasks: Mapping[str, Task],
        schedule: Schedule,
        snapshot: Snapshot,
        store: CheckpointStore,
        ema_store: CheckpointStore,
        display: Display,
        progress: Progress,
        tensorboard: TensorBoard | None = None,
        validations: tuple[FullValidation, ...] = (),
        finish: Callable[[], None] | None = None,
    ) -> None:
        self.config = config
        self.tasks = tasks
        self.schedule = schedule
        self.snapshot = snapshot
        self.store = store
        self.ema_store = ema_store
        self.display = display
        self.progress = progress
        self.tensorboard = tensorboard
        self.validations = validations
        self.finish = finish
        self.max_norm = float(config.gradient_max_norm or 0.0)
        self.guard = FiniteGuard()
        self._upcoming: Task | None = None
        self._saved_at = -1

    def run(self, start_step: int) -> Outcome:
        """Train to the end, or to the first SIGINT or SIGTERM.

        Raises:
            TrainingError: When the loss is not a number.
            WriteError: When a file cannot be written; says where the run can go on from.
            DataError: When a batch cannot be read.
        """
        try:
            return self._run(start_step)
        except WriteError as error:
            whole = self.store.link
            if not whole.exists():
                raise
            hint = f"{whole} is whole: make room, then continue with --restart {whole}"
            raise WriteError(error.message, hint=hint) from error

    def _run(self, start_step: int) -> Outcome:
        began = time.monotonic()
        metrics: Mapping[str, Tensor | float] = {}
        steps_done = start_step
        with StopRequest() as stop, contextlib.ExitStack() as streams:
            for task in self.tasks.values():
                streams.callback(task.stream.close)
                if task.validation is not None:
                    streams.callback(task.validation.close)
            while steps_done < self.schedule.num_steps:
                # A step begun to be drawn is done, so that all random streams stand where we stand.
                if stop and self._upcoming is None:
                    break
                metrics = self._step(steps_done, stop)
                steps_done += 1
            if self._saved_at != steps_done:
                self.guard.settle()
                self.save(steps_done)
        if self.tensorboard is not None:
            self.tensorboard.close()
        return Outcome(
            steps_done=steps_done,
            checkpoint=self.store.path_of(steps_done),
            metrics=as_numbers(metrics),
            seconds=time.monotonic() - began,
            stopped_by=stop.signal_name if steps_done < self.schedule.num_steps else None,
        )

    def _step(self, index: int, stop: StopRequest) -> Mapping[str, Tensor | float]:
        """Do the step with 0-based number `index` and what is due after it."""
        step = index + 1
        task, self._upcoming = self._upcoming or self._choose_task(), None
        batch = task.stream.next()
        if not stop and not self._pauses_after(step):
            self._upcoming = self._choose_task()
            self._upcoming.stream.prefetch()
        learning_rate = self.schedule.applied(index)
        optimizer = self.snapshot.optimizer
        set_learning_rate(optimizer, learning_rate)
        optimizer.zero_grad(set_to_none=True)
        result = task.compare(batch, learning_rate, create_graph=True)
        result.total.backward()  # type: ignore[no-untyped-call]
        self.guard.watch(step, task, batch, result.total.detach())
        norm = clip_gradients(self.snapshot.parameters, self.max_norm)
        optimizer.step()
        if self.snapshot.average is not None:
            self.snapshot.average.update()
        self._report(step, task, result.metrics, learning_rate, norm)
        for validation in self.validations:
            if validation.due(step):
                self.guard.settle()
                self.progress.line(validation.run(step, learning_rate))
        if self._saves_after(step):
            self.guard.settle()
            if step == self.schedule.num_steps and self.finish is not None:
                self.finish()
            self.save(step)
        return result.metrics

    def _choose_task(self) -> Task:
        return self.tasks[self.snapshot.choice.next()]

    def _pauses_after(self, step: int) -> bool:
        """Return whether the sampler's state may be needed after this step."""
        return self._saves_after(step) or any(v.due(step) for v in self.validations)

    def _saves_after(self, step: int) -> bool:
        return step == self.schedule.num_steps or step % int(self.config.save_freq) == 0

    def _report(
        self,
        step: int,
        task: Task,
        metrics: Mapping[str, Tensor | float],
        learning_rate: float,
        norm: Tensor | None,
    ) -> None:
        """Show what is due; numbers leave the device only then."""
        if self.config.disp_avg:
            self.display.collect(task, metrics)
        tensorboard = self.tensorboard if self.tensorboard and self.tensorboard.due(step) else None
        shows = self.display.due(step)
        if not (shows or tensorboard or self.progress.wants_metrics):
            self.progress.advance(step)
            return
        numbers = as_numbers(metrics)
        self.progress.advance(step, numbers)
        if shows:
            self.display.show(step, task, numbers, learning_rate)
        if tensorboard is not None:
            extra = {} if norm is None else {"grad/total_norm": float(norm)}
            tensorboard.add(step, task.name, {"lr": learning_rate, **numbers, **extra})

    def save(self, steps_done: int) -> None:
        """Write the checkpoint, then let the link lead to it, then delete old ones."""
        rate = self.schedule.applied(max(steps_done - 1, 0))
        path = self.store.path_of(steps_done)
        # deepmd-kit's optimiser sections carry the rate of the step to come.
        set_learning_rate(self.snapshot.optimizer, self.schedule.applied(steps_done))
        self.snapshot.save(path, steps_done=steps_done, learning_rate=rate)
        self.store.publish(path)
        self.store.prune()
        average = self.snapshot.average
        if average is not None:
            averaged = self.ema_store.path_of(steps_done)
            with average.applied():
                self.snapshot.save_weights(averaged, steps_done=steps_done, learning_rate=rate)
            self.ema_store.publish(averaged)
            self.ema_store.prune()
        self._saved_at = steps_done
        self.progress.line(f"Saved model to {path}")
