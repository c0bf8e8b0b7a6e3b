"""The training loop, with its reaction to signals and to numbers that are not finite."""

import contextlib
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor

from dpa2.training.display import Display, TensorBoard
from dpa2.training.energy_bias import ENERGIES_UNTRAINED, adjust_bias
from dpa2.training.finetune import Provenance
from dpa2.training.full_validation import FullValidation
from dpa2.training.moments import draw_frames
from dpa2.training.optimizer import clip_gradients, set_learning_rate
from dpa2.training.run_folder import CheckpointStore
from dpa2.training.task import Batch, Task, as_numbers
from dpa2.training.train_state import TrainState
from schemas.base.errors import TrainingError, WriteError


class StopRequest:
    """Turns the first signal into a flag; a second SIGINT interrupts at once.

    Attributes:
        signal_name: Name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def __enter__(self) -> Self:
        # Python delivers signals to the main thread only; elsewhere the caller has to stop us.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name


class FiniteGuard:
    """Watches the loss without making a GPU wait.

    On a CPU each loss is looked at immediately. On a GPU a step's loss is looked at while the next
    step is already queued: its value is there by then, so that nothing stalls.
    """

    def __init__(self) -> None:
        self._last: tuple[int, Task, Batch, Tensor] | None = None

    def watch(self, step: int, task: Task, batch: Batch, loss: Tensor) -> None:
        """Look at this step's loss (CPU) or at the one before (GPU).

        Raises:
            TrainingError: When it is NaN or infinite.
        """
        if loss.device.type != "cpu":
            self.settle()
        self._last = (step, task, batch, loss)
        if loss.device.type == "cpu":
            self.settle()

    def settle(self) -> None:
        """Look at the last loss now; called before anything is saved.

        Raises:
            TrainingError: When it is NaN or infinite.
        """
        last, self._last = self._last, None
        if last is not None and not bool(torch.isfinite(last[3])):
            raise explain(*last[:3])


def explain(step: int, task: Task, batch: Batch) -> TrainingError:
    """Return the error that names system, frame and atom behind a loss that is not finite."""
    where = _culprit(task, batch)
    return TrainingError(
        f"the loss is not a number at step {step}: {where}",
        hint="nothing of this step was saved; look at that structure (atoms too close? units?), "
        "lower learning_rate.start_lr, or set training.gradient_max_norm",
    )


def _culprit(task: Task, batch: Batch) -> str:
    broken = [
        name
        for name, parameter in task.model.named_parameters()
        if not bool(torch.isfinite(parameter).all())
    ]
    frames = batch.frames
    names = ", ".join(
        f"frame {int(frames.indices[f])} of {frames.source(f)}" for f in range(frames.num_frames)
    )
    if broken:
        return f"the weights themselves are no numbers any more (batch: {names})"
    prediction = batch.predict(task.model, create_graph=False)
    for quantity, values in (
        ("predicted energy", prediction.atom_energy),
        ("predicted force", prediction.force.sum(-1)),
    ):
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            f, atom = (int(i) for i in bad[0])
            frame = int(frames.indices[f])
            place = frames.place(f, atom)
            return f"{quantity} of atom {place} in frame {frame} of {frames.source(f)}"
    return f"predictions are finite, their errors overflow (batch: {names})"


@dataclass(frozen=True)
class TrainResult:
    """What a run has produced.

    Attributes:
        checkpoint: The newest checkpoint.
        curve: The learning curve (`lcurve.out`).
        num_steps: Steps of the whole training.
        steps_done: Steps done, earlier runs included.
        learning_rate: Rate of the last step.
        metrics: Errors of the last step on its training batch, by deepmd-kit's names; empty
            when this run did no step.
        seconds: Wall time of the loop.
        stopped_by: Name of the signal that ended the run early, or None.
        provenance: Of a fine-tuning: where each branch started.
    """

    checkpoint: Path
    curve: Path
    num_steps: int
    steps_done: int
    learning_rate: float
    metrics: dict[str, float]
    seconds: float
    stopped_by: str | None
    provenance: dict[str, Provenance] = field(default_factory=dict)


class Trainer:
    """Runs steps `start_step` to `num_steps` - 1.

    Args:
        config: The checked `training` section.
        state: What is trained, and what to save of it.
        store: Where checkpoints go.
        ema_store: Where averaged checkpoints go.
        display: Rows and lines.
        tensorboard: Curves, or None.
        validations: Full validations (of the weights, of their averages) that choose best
            checkpoints.
    """

    def __init__(
        self,
        config: Any,
        state: TrainState,
        store: CheckpointStore,
        ema_store: CheckpointStore,
        display: Display,
        tensorboard: TensorBoard | None = None,
        validations: tuple[FullValidation, ...] = (),
    ) -> None:
        self.config = config
        self.state = state
        self.tasks = state.tasks
        self.schedule = state.schedule
        self.store = store
        self.ema_store = ema_store
        self.display = display
        self.progress = display.progress
        self.tensorboard = tensorboard
        self.validations = validations
        self.max_norm = float(config.gradient_max_norm or 0.0)
        self.guard = FiniteGuard()
        self._upcoming: Task | None = None
        self._saved_at = -1

    def run(self, start_step: int) -> TrainResult:
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

    def _run(self, start_step: int) -> TrainResult:
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
        return TrainResult(
            checkpoint=self.store.path_of(steps_done),
            curve=self.display.curve.path,
            num_steps=self.schedule.num_steps,
            steps_done=steps_done,
            learning_rate=self.schedule.applied(max(steps_done - 1, 0)),
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
        optimizer = self.state.optimizer
        set_learning_rate(optimizer, learning_rate)
        optimizer.zero_grad()
        result = task.compare(batch, learning_rate, create_graph=True)
        result.total.backward()  # type: ignore[no-untyped-call]
        self.guard.watch(step, task, batch, result.total.detach())
        norm = clip_gradients(self.state.parameters, self.max_norm)
        optimizer.step()
        if self.state.average is not None:
            self.state.average.update()
        self._report(step, task, result.metrics, learning_rate, norm)
        for validation in self.validations:
            if validation.due(step):
                self.guard.settle()
                self.progress.line(validation.run(step))
        if self._saves_after(step):
            self.guard.settle()
            if step == self.schedule.num_steps and self.config.change_bias_after_training:
                self._change_biases()
            self.save(step)
        return result.metrics

    def _choose_task(self) -> Task:
        return self.tasks[self.state.task_sampler.next()]

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

    def _change_biases(self) -> None:
        """Add what the trained models leave over to their energies of the elements."""
        seed = self.config.seed if isinstance(self.config.seed, int) else None
        for task in self.tasks.values():
            if not task.loss.trains_energies:
                self.progress.line(ENERGIES_UNTRAINED)
                continue
            num_batches = task.model.config.data_stat_nbatch
            frames = draw_frames(task.sampler, num_batches, seed, self.progress.line)
            found = adjust_bias(task.model, frames, "change")
            self.progress.line(
                f"Change output bias of {found.type_map} from {found.before} to {found.after}."
            )

    def save(self, steps_done: int) -> None:
        """Write the checkpoint, then let the link lead to it, then delete old ones."""
        path = self.store.path_of(steps_done)
        # deepmd-kit's optimiser sections carry the rate of the step to come.
        set_learning_rate(self.state.optimizer, self.schedule.applied(steps_done))
        self.state.save(path, steps_done)
        self.store.publish(path)
        average = self.state.average
        if average is not None:
            averaged = self.ema_store.path_of(steps_done)
            with average.applied():
                self.state.save(averaged, steps_done, weights_only=True)
            self.ema_store.publish(averaged)
        self._saved_at = steps_done
        self.progress.line(f"Saved model to {path}")
