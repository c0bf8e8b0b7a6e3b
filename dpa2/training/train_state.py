"""Everything a run has to remember, from and to a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpa2.formats.checkpoint import Checkpoint, write_checkpoint
from dpa2.formats.weights import deepmd_parameters, load_deepmd_state, to_deepmd_state
from dpa2.training.optimizer import (
    NumberedParameters,
    ParameterAverage,
    Tuning,
    load_optimizer_section,
    optimizer_section,
)
from dpa2.training.task import Task, TaskSampler
from schemas.base.errors import CheckpointError
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.checkpoint.header import SETTINGS

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


class TrainState:
    """Saves and restores the state of a run.

    Args:
        tasks: The branches.
        optimizer: The optimiser.
        average: The running mean of the parameters, or None.
        model_params: The normalised `model` section, as it goes into the file.
        window: Sums behind the displayed averages (`disp_avg`), by branch.
        choice: Draws the branch of each step.
        tuning: What is frozen or trained more slowly.
        settings: The normalised input without the model, for whoever continues the run.

    Attributes:
        best: `[error, step]` of the best checkpoints, by their prefix (`full_validation`).
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        optimizer: torch.optim.Optimizer,
        average: ParameterAverage | None,
        model_params: Mapping[str, Any],
        window: dict[str, dict[str, float]],
        choice: TaskSampler,
        tuning: Tuning,
        settings: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self.tuning = tuning
        self.choice = choice
        self.tasks = tasks
        self.optimizer = optimizer
        self.average = average
        self.model_params = model_params
        self.window = window
        self.best: dict[str, list[list[float]]] = {}
        self.parameters = all_parameters(tasks)

    def save(self, path: Path, *, steps_done: int, learning_rate: float) -> None:
        """Write the checkpoint after `steps_done` steps, the last with `learning_rate`."""
        write_checkpoint(
            path,
            tensors=self._tensors(),
            model_params=self.model_params,
            step=max(steps_done - 1, 0),
            learning_rate=learning_rate,
            optimizer=optimizer_section(self.optimizer, self.parameters),
            ema=None if self.average is None else self.average.section(),
            state={**self._own_state(), "steps_done": steps_done},
        )

    def save_weights(self, path: Path, *, steps_done: int, learning_rate: float) -> None:
        """Write the weights alone, without what a restart needs."""
        write_checkpoint(
            path,
            tensors=self._tensors(),
            model_params=self.model_params,
            step=max(steps_done - 1, 0),
            learning_rate=learning_rate,
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

    def _tensors(self) -> dict[str, Any]:
        known: dict[int, Tensor] = {}
        return {name: to_deepmd_state(task.model, known) for name, task in self.tasks.items()}

    def _own_state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "training_data": {n: t.stream.state_dict() for n, t in self.tasks.items()},
            "validation_data": {
                n: t.validation.state_dict()
                for n, t in self.tasks.items()
                if t.validation is not None
            },
            "choice": self.choice.state_dict(),
            "tuning": self.tuning.document(),
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
            self.choice.load_state_dict(state["choice"])
        self.window.clear()
        self.window.update({name: dict(sums) for name, sums in state["window"].items()})
        if _metric(state.get(SETTINGS)) == _metric(self.settings):
            self.best.update(
                {name: [list(r) for r in rows] for name, rows in state["best"].items()}
            )
        torch.set_rng_state(state["torch_generator"])
