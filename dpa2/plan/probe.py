"""Two real training steps, measured."""

import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.input import Input
from schemas.multitask import MultiTaskInput
from schemas.normalize import normalized

NUM_STEPS = 2
_NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Probe:
    """What two steps cost.

    Attributes:
        seconds_per_step: Wall time of a step after the first.
        total_seconds: Wall time of the run at this pace, validation and checkpoints apart.
        peak_bytes: Largest resident memory of the process, PyTorch included.
    """

    seconds_per_step: float
    total_seconds: float
    peak_bytes: int


def probe(config: Input | MultiTaskInput, num_steps: int, device: str | None = None) -> Probe:
    """Run training steps in a temporary folder, on the run's own data.

    A first step is not counted: it pays for what is set up once. Statistics of the data are
    computed for it and kept for the others; the run's own `stat_file` is left alone.

    Args:
        config: The checked input.
        num_steps: Steps of the whole run.
        device: `cpu`, `cuda` ...; default: a GPU if there is one.

    Raises:
        ZooError: The input cannot be trained by this engine, or its data cannot be read.
    """
    from dpa2.training.run import train

    with tempfile.TemporaryDirectory(prefix="zoo-plan-") as folder:
        seconds = [
            train(
                _shortened(config, number, Path(folder)),
                output_dir=folder,
                device=device,
                progress=False,
            ).seconds
            for number in (1, NUM_STEPS)
        ]
    each = seconds[1] / NUM_STEPS
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Probe(each, each * num_steps, peak)


def _shortened(config: Input | MultiTaskInput, num_steps: int, folder: Path) -> dict[str, Any]:
    """Return an input that runs a few steps and writes as little as possible."""
    document = normalized(config)
    rate = {"start_lr": config.learning_rate.start_lr, "stop_lr": config.learning_rate.last_lr}
    training = {
        key: value
        for key, value in document["training"].items()
        if key not in ("numb_epoch", "num_epoch_dict", "validation_data", "save_dir")
    }
    changes = {
        "numb_steps": num_steps,
        "disp_freq": _NEVER,
        "save_freq": _NEVER,
        "save_ckpt": "model.ckpt",
        "disp_file": "lcurve.out",
        "tensorboard": False,
        "change_bias_after_training": False,
    }
    training |= changes
    _keep_statistics(training, folder)
    return {
        **document,
        "learning_rate": {**rate, "type": "exp"},
        "training": training,
        "validating": {},
    }


def _keep_statistics(training: dict[str, Any], folder: Path) -> None:
    """Let the second run read the statistics of the first."""
    tasks: dict[str, dict[str, Any]] = training.get("data_dict", {"default": training})
    for name, task in tasks.items():
        task.pop("validation_data", None)
        task["stat_file"] = str(folder / f"{name}.h5")
        task["stat_file_mode"] = "update"
