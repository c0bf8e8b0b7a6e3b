"""`change_bias_after_training`: what the model leaves over goes into the energy per element."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import Frames
from dpa2.model.energy import tensors_to
from dpa2.training.statistics import change_bias, draw_frames
from dpa2.training.task import Task


def change_final_bias(task: Task, seed: int | None, say: Callable[[str], None]) -> None:
    """Fit the remaining errors of the energy per element and add them to the model's bias.

    Args:
        task: The trained model and its data.
        seed: Of the choice of frames.
        say: Receives lines for the log.
    """
    model = task.model
    before = model.out_bias.tolist()
    batches = draw_frames(task.stream.sampler, model.config.data_stat_nbatch, seed)

    def atomic_energies(batch: Frames) -> NDArray[np.float64]:
        parts = []
        for f in range(batch.num_frames):
            one = batch.select(np.array([f]))
            graph = model.graph(one.coord, one.box, one.atom_types)
            fparam, aparam = (tensors_to(model.device, v) for v in (one.fparam, one.aparam))
            parts.append(model(graph, fparam, aparam).atom_energy.cpu().numpy())
        return np.concatenate(parts)

    change_bias(model, batches, atomic_energies)
    say(f"Change output bias of {model.type_map} from {before} to {model.out_bias.tolist()}.")
