"""A loss that is not a number: stop at once and say where it came from."""

import torch
from torch import Tensor

from dpa2.training.batch import Batch
from dpa2.training.task import Task
from schemas.errors import TrainingError


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
        previous, self._last = self._last, (step, task, batch, loss)
        if loss.device.type == "cpu":
            self.settle()
        elif previous is not None and not bool(torch.isfinite(previous[3])):
            raise explain(*previous[:3])

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
