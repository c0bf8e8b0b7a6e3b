"""`train`: from an input file to a finished run."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from dpa2.io.atomic import write_json
from dpa2.io.checkpoint import SINGLE_TASK_BRANCH, Checkpoint, read_checkpoint
from dpa2.io.store import CheckpointStore, ema_prefix, keep_count
from dpa2.model.build import build_model
from dpa2.training.average import ParameterAverage
from dpa2.training.batch import BatchBuilder, BatchStream
from dpa2.training.display import Display, TensorBoard
from dpa2.training.final_bias import change_final_bias
from dpa2.training.full_validation import full_validations
from dpa2.training.lcurve import LearningCurve
from dpa2.training.loss import EnergyLoss
from dpa2.training.neighbor_statistics import resolve_auto_nsel
from dpa2.training.optimizer import build_optimizer
from dpa2.training.preparation import (
    choose_device,
    read_input,
    refuse_unsupported,
    seed_global_generator,
    stream_seed,
)
from dpa2.training.progress import Progress, choose_progress
from dpa2.training.schedule import Schedule, build_schedule
from dpa2.training.snapshot import Snapshot, all_parameters
from dpa2.training.statistics import initialise_statistics
from dpa2.training.task import Task
from dpa2.training.trainer import Trainer
from schemas.errors import ConfigError
from schemas.input import Input
from schemas.multitask import MultiTaskInput
from schemas.normalize import normalized

_VALIDATION_STREAM = 1  # spawns the seed of the validation sampler from the training's


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
    """

    checkpoint: Path
    curve: Path
    num_steps: int
    steps_done: int
    learning_rate: float
    metrics: dict[str, float]
    seconds: float
    stopped_by: str | None


def train(
    config: str | os.PathLike[str] | Mapping[str, Any] | Input | MultiTaskInput,
    *,
    restart: str | os.PathLike[str] | None = None,
    init_model: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    output_dir: str | os.PathLike[str] | None = None,
    output: str = "out.json",
    device: str | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a DPA-2 energy model.

    Paths of data are relative to the current folder, paths of results to `output_dir`.

    Args:
        config: An input file, its content, or an already checked input.
        restart: Checkpoint of an interrupted run, continued exactly where it was.
        init_model: Checkpoint whose weights and statistics a new run starts from.
        overrides: Changes of the input, `("training.numb_steps=1000",)`, checked like the file.
        output_dir: Folder for everything that is written; default: the current one.
        output: Name of the file with the complete, normalised input.
        device: `cpu`, `cuda` ...; default: a GPU if there is one.
        progress: Show a bar (terminal, notebook) or lines.

    Raises:
        ConfigError: When the input has faults.
        DataError: When the data cannot be used.
        CheckpointError: When `restart` or `init_model` cannot be used.
        TrainingError: When the loss is not a number, or a file cannot be written.
    """
    if restart is not None and init_model is not None:
        raise ConfigError(
            "a run is either restarted or initialised from a model, not both",
            hint="--restart continues a run; --init-model starts a new one from its weights",
        )
    checked_input = read_input(config, overrides)
    start = restart if restart is not None else init_model
    checkpoint = None if start is None else read_checkpoint(Path(start))
    run = _Run(
        checked_input,
        Path(output_dir or "."),
        choose_device(device),
        checkpoint,
        is_restart=restart is not None,
        shows_progress=progress,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        seed_global_generator(checked_input.training.seed)
        return run.execute(output)


class _Run:
    """The parts of one training, put together in the order in which they depend on each other."""

    def __init__(
        self,
        config: Input,
        folder: Path,
        device: torch.device,
        checkpoint: Checkpoint | None,
        *,
        is_restart: bool,
        shows_progress: bool,
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.checkpoint = checkpoint
        self.is_restart = is_restart
        self.shows_progress = shows_progress
        self.notes: list[str] = []

    def execute(self, output: str) -> TrainResult:
        """Build, train, and tell what came out."""
        config = self.config.training
        refuse_unsupported(self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        task, model_params = self._build_task()
        self._write_normalised_input(output, model_params)
        tasks = {task.name: task}
        schedule = build_schedule(self.config.learning_rate, self._num_steps(task))
        parameters = all_parameters(tasks)
        optimizer = build_optimizer(self.config.optimizer, parameters, schedule.start_lr)
        average = ParameterAverage(parameters, config.ema_decay) if config.enable_ema else None
        snapshot = Snapshot(tasks, optimizer, average, model_params, window={})
        start_step = self._resume(snapshot)
        curve_path = self.folder / config.disp_file
        resume_after = start_step if self.is_restart else None
        stores = self._stores(schedule.num_steps)
        validations = full_validations(
            self.config, task, snapshot, self.folder, schedule.num_steps, resumed_at=resume_after
        )
        with (
            LearningCurve(curve_path, resume_after) as curve,
            choose_progress(start_step, schedule.num_steps, shown=self.shows_progress) as progress,
        ):
            self._announce(progress, task, start_step, schedule)
            trainer = Trainer(
                config,
                tasks,
                schedule,
                snapshot,
                *stores,
                Display(config, curve, progress, snapshot.window),
                progress,
                self._tensorboard(),
                validations,
                self._final_change(task, progress),
            )
            outcome = trainer.run(start_step)
        return TrainResult(
            checkpoint=outcome.checkpoint,
            curve=curve_path,
            num_steps=schedule.num_steps,
            steps_done=outcome.steps_done,
            learning_rate=schedule.applied(max(outcome.steps_done - 1, 0)),
            metrics=outcome.metrics,
            seconds=outcome.seconds,
            stopped_by=outcome.stopped_by,
        )

    def _build_task(self) -> tuple[Task, dict[str, Any]]:
        """Open the data, build the model, give it statistics unless a checkpoint brings them."""
        training = self.config.training
        model_config = self.config.model
        start_lr = float(self.config.learning_rate.start_lr)
        loss = EnergyLoss(self.config.loss, start_lr, rounds_factors=True)
        systems = open_systems(
            training.training_data.systems,
            model_config.type_map,
            training.training_data.rglob_patterns,
        )
        model_config, min_distance = resolve_auto_nsel(model_config, systems)
        model = build_model(model_config).to(self.device)
        if min_distance is not None:
            model.min_nbor_dist.fill_(min_distance)
        builder = BatchBuilder(model, loss)
        sampler = self._sampler(
            training.training_data, systems, builder, stream_seed(training.seed, 0)
        )
        self.notes += sampler.warnings
        model_params = normalized(model_config)
        if self.checkpoint is None:
            found = initialise_statistics(
                model,
                sampler,
                stat_file=None if training.stat_file is None else Path(training.stat_file),
                read_only=training.stat_file_mode == "read",
                seed=stream_seed(training.seed, 0),
                say=self.notes.append,
            )
            model_params["info"] = {**model_params["info"], "observed_type": found.observed_types}
        else:
            known = self.checkpoint.branch()[0].get("info") or {}
            model_params["info"] = {**known, **model_params["info"]}
        validation = None
        if training.validation_data is not None:
            data = training.validation_data
            opened = open_systems(data.systems, model_config.type_map, data.rglob_patterns)
            seed = stream_seed(training.seed, _VALIDATION_STREAM)
            validation = BatchStream(self._sampler(data, opened, builder, seed), builder)
        task = Task(
            SINGLE_TASK_BRANCH,
            model,
            loss,
            BatchStream(sampler, builder),
            validation,
            training.validation_data.numb_btch if training.validation_data else 1,
        )
        return task, model_params

    def _sampler(
        self, data: Any, systems: Sequence[Any], builder: BatchBuilder, seed: int | None
    ) -> Sampler:
        return Sampler(
            systems,
            data.batch_size,
            auto_prob=data.auto_prob,
            sys_probs=data.sys_probs,
            seed=seed,
            min_pair_dist=getattr(data, "min_pair_dist", 0.0),
            need=builder.needed,
        )

    def _num_steps(self, task: Task) -> int:
        training = self.config.training
        if training.numb_steps is not None:
            return int(training.numb_steps)
        assert training.numb_epoch is not None
        return math.ceil(training.numb_epoch * task.stream.sampler.steps_per_epoch)

    def _resume(self, snapshot: Snapshot) -> int:
        """Load the checkpoint, if any; return the number of steps already done."""
        if self.checkpoint is None:
            return 0
        if not self.is_restart:
            snapshot.load_weights(self.checkpoint)
            if snapshot.average is not None:
                snapshot.average.reset()
            return 0
        return snapshot.restore(self.checkpoint)

    def _stores(self, num_steps: int) -> tuple[CheckpointStore, CheckpointStore]:
        """Return the families of checkpoints: the weights', their averages'."""
        training = self.config.training
        prefix = self.folder / training.save_ckpt
        directory = self.folder / training.save_dir if training.save_dir else prefix.parent
        ratio, every = training.ckpt_keep_ratio, training.save_freq
        keep = keep_count(ratio, num_steps, every, training.max_ckpt_keep)
        ema_default = training.ema_ckpt_keep or training.max_ckpt_keep
        keep_ema = keep_count(ratio, num_steps, every, ema_default)
        store = CheckpointStore(prefix, directory, keep, pointer=self.folder / "checkpoint")
        store.prepare()
        return store, CheckpointStore(ema_prefix(prefix), directory, keep_ema)

    def _final_change(self, task: Task, progress: Progress) -> Callable[[], None] | None:
        if not self.config.training.change_bias_after_training:
            return None
        return lambda: change_final_bias(self.config, task, progress.line)

    def _tensorboard(self) -> TensorBoard | None:
        training = self.config.training
        if not training.tensorboard:
            return None
        return TensorBoard(self.folder / training.tensorboard_log_dir, training.tensorboard_freq)

    def _write_normalised_input(self, output: str, model_params: Mapping[str, Any]) -> None:
        document = normalized(self.config)
        document["model"] = {**model_params, "info": document["model"]["info"]}
        write_json(self.folder / output, document)

    def _announce(
        self, progress: Progress, task: Task, start_step: int, schedule: Schedule
    ) -> None:
        for note in self.notes:
            progress.line(note)
        count = sum(parameter.numel() for parameter in task.model.parameters())
        sampler = task.stream.sampler
        progress.line(
            f"{count} parameters; {len(sampler.systems)} systems with "
            f"{sum(system.num_frames for system in sampler.systems)} frames; on {self.device}"
        )
        begin = f"Start to train {schedule.num_steps} steps"
        progress.line(f"{begin}, {start_step} of them done before" if start_step else begin)
