"""Everything a run has to remember, from and to a checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpa2.formats.checkpoint import Checkpoint, write_checkpoint
from dpa2.formats.weights import deepmd_parameters, load_deepmd_state, to_deepmd_state
from dpa2.training.adam import Adam
from dpa2.training.optimizer import (
    NumberedParameters,
    ParameterAverage,
    Tuning,
    load_optimizer_section,
    optimizer_section,
)
from dpa2.training.task import Task
from schemas.base.errors import CheckpointError
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.checkpoint.header import SETTINGS
from schemas.input.schedule import Schedule


class TaskSampler:
    """Draws the branch of every step; a stream of random numbers of its own, with a state.

    Args:
        probabilities: Of each branch; they add up to 1.
        seed: None starts anywhere.
    """

    def __init__(self, probabilities: Mapping[str, float], seed: int | None) -> None:
        self.names = list(probabilities)
        self.probabilities = np.array(list(probabilities.values()), dtype=np.float64)
        self._draws = np.random.default_rng(seed)

    def next(self) -> str:
        """Return the branch of the next step."""
        if len(self.names) == 1:
            return self.names[0]
        return self.names[int(self._draws.choice(len(self.names), p=self.probabilities))]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain containers."""
        return dict(self._draws.bit_generator.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._draws.bit_generator.state = dict(state)


FORMAT = 1
"""Version of our own section of a checkpoint; readers refuse a higher one."""


def all_parameters(tasks: Mapping[str, Task]) -> NumberedParameters:
    """Return the parameters of all tasks in deepmd-kit's order, shared ones once."""
    prefixes = [f"{name}." if name != SINGLE_TASK_BRANCH else "" for name in tasks]
    listed = deepmd_parameters(*(task.model for task in tasks.values()))
    return [(prefixes[number] + name, parameter) for number, name, parameter in listed]


def _metric(settings: Mapping[str, Any] | None) -> str | None:
    """Return what the best checkpoints are chosen by: errors of other kinds cannot be compared."""
    metric = ((settings or {}).get("validating") or {}).get("validation_metric")
    return None if metric is None else str(metric).strip().upper()


@dataclass
class TrainState:
    """Saves and restores the state of a run.

    Attributes:
        tasks: The branches.
        schedule: Learning rates.
        optimizer: The optimiser.
        average: The running mean of the parameters, or None.
        model_params: The normalised `model` section, as it goes into the file.
        task_sampler: Draws the branch of each step.
        tuning: What is frozen or trained more slowly.
        settings: The normalised input without the model, for whoever continues the run.
        window: Sums behind the displayed averages (`disp_avg`), by branch.
        best: `[error, step]` of the best checkpoints, by their prefix (`full_validation`).
    """

    tasks: Mapping[str, Task]
    schedule: Schedule
    optimizer: Adam
    average: ParameterAverage | None
    model_params: Mapping[str, Any]
    task_sampler: TaskSampler
    tuning: Tuning
    settings: Mapping[str, Any]
    window: dict[str, dict[str, float]] = field(default_factory=dict)
    best: dict[str, list[list[float]]] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> NumberedParameters:
        """The parameters of all tasks in deepmd-kit's order."""
        return all_parameters(self.tasks)

    def save(self, path: Path, steps_done: int, *, weights_only: bool = False) -> None:
        """Write the checkpoint after `steps_done` steps.

        Args:
            path: The file.
            steps_done: Steps of the whole run, earlier ones included.
            weights_only: Leave out what a restart needs.
        """
        known: dict[int, Tensor] = {}
        rest: dict[str, Any] = {}
        if not weights_only:
            rest["optimizer"] = optimizer_section(self.optimizer, self.parameters)
            rest["ema"] = None if self.average is None else self.average.section()
            rest["state"] = {**self._own_state(), "steps_done": steps_done}
        last = max(steps_done - 1, 0)
        write_checkpoint(
            path,
            tensors={name: to_deepmd_state(task.model, known) for name, task in self.tasks.items()},
            model_params=self.model_params,
            step=last,
            learning_rate=self.schedule.applied(last),
            **rest,
        )

    def restore(self, checkpoint: Checkpoint) -> int:
        """Continue the run of a checkpoint.

        A file of deepmd-kit brings weights, optimiser and averages; its data order is not recorded,
        so that ours begins anew. deepmd-kit itself repeats the last step on `--restart`; here the
        next step follows, for its files too.

        Returns:
            The number of steps already done.

        Raises:
            CheckpointError: When the file does not fit the input, or holds weights only.
        """
        steps_done = checkpoint.steps_done
        if checkpoint.optimizer is None or steps_done is None:
            raise CheckpointError(
                f"{checkpoint.path} holds weights only and cannot be restarted from",
                hint="start a new run from its weights: --init-model",
            )
        self.load_weights(checkpoint)
        load_optimizer_section(self.optimizer, checkpoint.optimizer, self.parameters)
        if self.average is not None:
            if checkpoint.ema is not None:
                self.average.load(checkpoint.ema)
            else:
                self.average.reset()  # deepmd-kit too starts from the restored weights then
        if checkpoint.state is not None:
            self._restore_own_state(checkpoint.state, checkpoint.path)
        return steps_done

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """Copy the weights and statistics of all branches.

        Raises:
            CheckpointError: When they are of another model.
        """
        for name, task in self.tasks.items():
            _, tensors = checkpoint.branch(name)
            try:
                load_deepmd_state(task.model, tensors)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{checkpoint.path} does not fit the model of the input: {error.message}",
                    hint="use the model section that the checkpoint was trained with; the out.json "
                    "beside it has it",
                ) from error

    def _own_state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "training_data": {n: t.stream.state_dict() for n, t in self.tasks.items()},
            "validation_data": {
                n: t.validation.state_dict()
                for n, t in self.tasks.items()
                if t.validation is not None
            },
            "choice": self.task_sampler.state_dict(),
            "tuning": asdict(self.tuning),  # a restart goes on in the same way
            SETTINGS: self.settings,
            "window": self.window,
            "best": self.best,
            "torch_generator": torch.get_rng_state(),
        }

    def _restore_own_state(self, state: Mapping[str, Any], path: Path) -> None:
        if state["format"] > FORMAT:
            raise CheckpointError(
                f"{path} was written by a newer zoo (state format {state['format']}, this one "
                f"knows {FORMAT})",
                hint="upgrade zoo, or start from the weights alone: --init-model",
            )
        for name, task in self.tasks.items():
            if name in state["training_data"]:
                task.stream.sampler.load_state_dict(state["training_data"][name])
            if task.validation is not None and name in state["validation_data"]:
                task.validation.sampler.load_state_dict(
                    state["validation_data"][name], "validation"
                )
        if "choice" in state:  # files of version 0.1 have none and one branch
            self.task_sampler.load_state_dict(state["choice"])
        self.window.clear()
        self.window.update({name: dict(sums) for name, sums in state["window"].items()})
        if _metric(state.get(SETTINGS)) == _metric(self.settings):
            self.best.update(
                {name: [list(r) for r in rows] for name, rows in state["best"].items()}
            )
        torch.set_rng_state(state["torch_generator"])
