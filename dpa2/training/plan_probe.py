"""Two real training steps, measured."""

import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpa2.training.plan import BranchPlan
from schemas.input.optimization import LearningRate
from schemas.input.root import Input, MultiTaskInput, normalized

NUM_STEPS = 2
_NEVER = 10**9
_SEVERAL = ("data_dict", "model_prob", "num_epoch_dict")


@dataclass(frozen=True, slots=True)
class Probe:
    """What two steps of each branch cost.

    Attributes:
        seconds_per_step: Mean wall time of a step after the first, branches weighted by how often
            each is trained.
        total_seconds: Wall time of the run at this pace, validation and checkpoints apart.
        peak_bytes: Largest resident memory of the process, PyTorch included.
        branches: Wall time of a step of each branch, in s; of the only task as well.
    """

    seconds_per_step: float
    total_seconds: float
    peak_bytes: int
    branches: dict[str, float]


def probe(
    config: Input | MultiTaskInput,
    branches: Sequence[BranchPlan],
    num_steps: int,
    device: str | None = None,
) -> Probe:
    """Run training steps in a temporary folder, on the run's own data.

    A branch is run as a task of its own: a step of a multi-task run trains one branch. A first
    step is not counted: it pays for what is set up once. Statistics of the data are computed for
    it and kept for the others; the run's own `stat_file` is left alone.

    Args:
        config: The checked input.
        branches: Its branches, or the only task, with how often each is trained.
        num_steps: Steps of the whole run.
        device: `cpu`, `cuda` ...; default: a GPU if there is one.

    Raises:
        ZooError: The input cannot be trained by this engine, or its data cannot be read.
    """
    document = normalized(config)
    trained = [branch for branch in branches if (branch.probability or 0) > 0]
    seconds = {
        branch.name: _seconds_per_step(
            _task(document, branch.name) if isinstance(config, MultiTaskInput) else document,
            config.learning_rate,
            device,
        )
        for branch in trained
    }
    mean = sum((branch.probability or 0) * seconds[branch.name] for branch in trained)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Probe(mean, mean * num_steps, peak, seconds)


def _task(document: dict[str, Any], branch: str) -> dict[str, Any]:
    """Return the input that trains one branch alone."""
    common = {key: value for key, value in document["training"].items() if key not in _SEVERAL}
    shared = {key: document[key] for key in ("learning_rate", "optimizer")}
    return shared | {
        "model": document["model"]["model_dict"][branch],
        "loss": document["loss_dict"][branch],
        "training": common | document["training"]["data_dict"][branch],
    }


def _seconds_per_step(
    document: dict[str, Any], schedule: LearningRate, device: str | None
) -> float:
    from dpa2.training.run import train

    with tempfile.TemporaryDirectory(prefix="zoo-plan-") as folder:
        seconds = [
            train(
                _shortened(document, schedule, number, Path(folder)),
                output_dir=folder,
                force=True,
                device=device,
                progress=False,
            ).seconds
            for number in (1, NUM_STEPS)
        ]
    return seconds[1] / NUM_STEPS


def _shortened(
    document: dict[str, Any], schedule: LearningRate, num_steps: int, folder: Path
) -> dict[str, Any]:
    """Return an input that runs a few steps and writes as little as possible."""
    rate = {"type": "exp", "start_lr": schedule.start_lr, "stop_lr": schedule.last_lr}
    left_out = ("numb_epoch", "validation_data", "save_dir")
    training = {key: value for key, value in document["training"].items() if key not in left_out}
    training |= {
        "numb_steps": num_steps,
        "disp_freq": _NEVER,
        "save_freq": _NEVER,
        "save_ckpt": "model.ckpt",
        "disp_file": "lcurve.out",
        "tensorboard": False,
        "change_bias_after_training": False,
        "stat_file": str(folder / "statistics.h5"),
        "stat_file_mode": "update",
    }
    return {**document, "learning_rate": rate, "training": training, "validating": {}}
