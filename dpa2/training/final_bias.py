"""`change_bias_after_training`: what the model leaves over goes into the energy per element."""

from collections.abc import Callable

from dpa2.training.bias import adjust_bias
from dpa2.training.drawn_frames import draw_frames
from dpa2.training.statistics import ENERGIES_UNTRAINED
from dpa2.training.task import Task


def change_final_bias(task: Task, seed: int | None, say: Callable[[str], None]) -> None:
    """Fit the remaining errors of the energy per element and add them to the model's bias.

    Args:
        task: The trained model and its data.
        seed: Of the choice of frames.
        say: Receives lines for the log.
    """
    if not task.loss.trains_energies:
        say(ENERGIES_UNTRAINED)
        return
    model = task.model
    frames = draw_frames(task.stream.sampler, model.config.data_stat_nbatch, seed, say)
    found = adjust_bias(model, frames, "change")
    say(f"Change output bias of {found.type_map} from {found.before} to {found.after}.")
