"""`train`: from an input file to a finished run."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.model.build import share
from dpa2.training.assembly import Assembled, assemble, joined_model_params, links_of
from dpa2.training.bias import change_final_bias
from dpa2.training.display import Display, Progress, TensorBoard, choose_progress
from dpa2.training.environment_statistics import InputMoments, merge_statistics
from dpa2.training.full_validation import full_validations
from dpa2.training.lcurve import LearningCurve
from dpa2.training.optimizer import ParameterAverage, Tuning, build_optimizer
from dpa2.training.preparation import (
    choose_device,
    read_input,
    refuse_idle_arguments,
    refuse_several_processes,
    refuse_unsupported,
    seed_global_generator,
    start_from,
    stream_seed,
)
from dpa2.training.provenance import Provenance
from dpa2.training.run_folder import RunFolder
from dpa2.training.start import Finetune, FromCheckpoint, RunStart, Scratch
from dpa2.training.task import RunLength, Task, TaskSampler, run_length
from dpa2.training.train_state import TrainState, all_parameters
from dpa2.training.trainer import Trainer
from schemas.base.errors import ConfigError
from schemas.base.writing import lasting_output, write_json
from schemas.input.root import Input, MultiTaskInput, normalized
from schemas.input.schedule import Schedule, build_schedule, jump
from schemas.input.semantic_diff import settings_of
from schemas.input.start import BiasMode, StartOption


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


def train(
    config: str | os.PathLike[str] | Mapping[str, Any] | Input | MultiTaskInput,
    *,
    restart: str | os.PathLike[str] | None = None,
    init_model: str | os.PathLike[str] | None = None,
    finetune: str | os.PathLike[str] | None = None,
    branch: str | None = None,
    use_pretrain_script: bool = False,
    bias_mode: BiasMode | None = None,
    tuning: Tuning | None = None,
    overrides: Sequence[str] = (),
    output_dir: str | os.PathLike[str] | None = None,
    force: bool = False,
    output: str = "out.json",
    device: str | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a DPA-2 energy model, or several that share parts (multi-task).

    Paths of data are relative to the current folder, paths of results to `output_dir`. When nobody
    reads what is printed any more, or the terminal is closed, the training goes on.

    Args:
        config: An input file, its content, or an already checked input.
        restart: Checkpoint of an interrupted run, continued exactly where it was.
        init_model: Checkpoint whose weights and statistics a new run starts from.
        finetune: Checkpoint to fine-tune: its weights, by element, and energies of the new data.
        branch: Its branch to start from, or `RANDOM` for its descriptor and a new fitting net.
        use_pretrain_script: Take the networks' sections of the input from it; with `init_model` the
            whole section of the model.
        bias_mode: How the energies of the elements are fitted; default: `change` for a fitting net
            of the checkpoint, `set` for a random one, as deepmd-kit.
        tuning: What a fine-tuning freezes or trains more slowly; a restart goes on with it.
        overrides: Changes of the input, `("training.numb_steps=1000",)`, checked like the file.
        output_dir: Folder for everything that is written; default: the current one.
        force: Write over the files of another run in that folder. Its checkpoints of other steps
            stay.
        output: Name of the file with the complete, normalised input.
        device: `cpu`, `cuda` ...; default: a GPU if there is one.
        progress: Show a bar (terminal, notebook) or lines.

    Raises:
        ConfigError: When the input has faults.
        DataError: When the data cannot be used.
        CheckpointError: When `restart`, `init_model` or `finetune` cannot be used.
        ValueError: When an argument has no effect on what it is given with.
        TrainingError: When the loss is not a number, the folder holds another run, or a run is at
            work in it, or several processes were started to share the work.
        WriteError: When a file cannot be written.
    """
    refuse_several_processes(os.environ)
    if sum(file is not None for file in (restart, init_model, finetune)) > 1:
        raise ConfigError(
            "--restart, --init-model and --finetune exclude each other",
            hint="--restart continues a run; --init-model starts a new one from its weights; "
            "--finetune does so on other data",
        )
    is_finetuned, is_new = finetune is not None, restart is None
    refuse_idle_arguments(
        {
            "branch": (branch is not None, is_finetuned),
            "bias_mode": (bias_mode is not None, is_finetuned),
            "tuning": (tuning not in (None, Tuning()), is_finetuned),
            "use_pretrain_script": (use_pretrain_script, is_finetuned or init_model is not None),
        }
    )
    file = restart or init_model or finetune
    checkpoint = None if file is None else read_checkpoint(Path(file))
    start = None
    if checkpoint is not None:
        option: StartOption = "--init-model" if is_new else "--restart"
        start = start_from(
            checkpoint,
            "--finetune" if is_finetuned else option,
            branch,
            use_pretrain_script=use_pretrain_script,
        )
    checked_input, notes = read_input(config, overrides, start)
    beginning: RunStart = Scratch()
    if checkpoint is not None and start is not None and is_finetuned:
        chosen = tuning or Tuning()
        beginning = Finetune(checked_input, checkpoint, start, bias_mode, chosen)
    elif checkpoint is not None:
        beginning = FromCheckpoint(checkpoint, restart=not is_new)
    run = _Run(
        checked_input,
        RunFolder(checked_input, Path(output_dir or "."), output),
        choose_device(device),
        beginning,
        notes=notes,
        force=force,
        shows_progress=progress,
    )
    # The caller's random numbers stay as they are.
    with lasting_output(), torch.random.fork_rng(devices=[]):
        seed_global_generator(checked_input.training.seed)
        result = run.execute()
    if isinstance(beginning, Finetune):
        return replace(result, provenance=beginning.provenance)
    return result


class _Run:
    """The parts of one training, put together in the order in which they depend on each other."""

    def __init__(
        self,
        config: Input | MultiTaskInput,
        files: RunFolder,
        device: torch.device,
        beginning: RunStart,
        *,
        notes: list[str],
        force: bool,
        shows_progress: bool,
    ) -> None:
        self.config = config
        self.files = files
        self.device = device
        self.beginning = beginning
        self.force = force
        self.shows_progress = shows_progress
        self.notes = notes

    def execute(self) -> TrainResult:
        """Build, train, and tell what came out."""
        refuse_unsupported(self.config)
        with self.files.held(self.notes.append):
            if not self.force:
                self.files.refuse_used(self.beginning.continued)
            return self._execute()

    def _execute(self) -> TrainResult:
        config = self.config.training
        branches = assemble(self.config, self.device, self.notes.append)
        moments = self.beginning.prepare(branches, self.notes.append)
        length = self._length(branches)
        self._share(branches, moments, length.probabilities)
        tasks = {name: item.task() for name, item in branches.items()}
        model_params = joined_model_params(self.config, branches)
        schedule = build_schedule(self.config.learning_rate, length.num_steps)
        parameters = all_parameters(tasks)
        tuning = self.beginning.tuning
        factors = tuning.factors(name for name, _ in parameters)
        optimizer = build_optimizer(self.config.optimizer, parameters, schedule.start_lr, factors)
        average = ParameterAverage(parameters, config.ema_decay) if config.enable_ema else None
        choice = TaskSampler(length.probabilities, stream_seed(config.seed, 2 * len(tasks)))
        settings = settings_of(self.config)
        snapshot = TrainState(tasks, optimizer, average, model_params, {}, choice, tuning, settings)
        start_step = self.beginning.resume(snapshot)
        self._write_normalised_input(model_params)  # what cannot go on leaves nothing
        self._note_jump(schedule, start_step)
        resume_after = None if self.beginning.continued is None else start_step
        stores = self.files.stores(schedule.num_steps)
        for store in stores:
            store.prepare(start_step)
        validations = full_validations(
            self.config, tasks, snapshot, self.files, schedule.num_steps, resumed_at=resume_after
        )
        with (
            closing(LearningCurve(self.files.curve, resume_after)) as curve,
            choose_progress(start_step, schedule.num_steps, shown=self.shows_progress) as progress,
        ):
            self._announce(progress, tasks, length, start_step)
            trainer = Trainer(
                config,
                tasks,
                schedule,
                snapshot,
                *stores,
                Display(config, curve, progress, snapshot.window, tasks),
                progress,
                self._tensorboard(),
                validations,
                self._final_change(tasks, progress),
            )
            outcome = trainer.run(start_step)
        return TrainResult(
            checkpoint=outcome.checkpoint,
            curve=self.files.curve,
            num_steps=schedule.num_steps,
            steps_done=outcome.steps_done,
            learning_rate=schedule.applied(max(outcome.steps_done - 1, 0)),
            metrics=outcome.metrics,
            seconds=outcome.seconds,
            stopped_by=outcome.stopped_by,
        )

    def _note_jump(self, schedule: Schedule, start_step: int) -> None:
        """Say that the rate jumps where numbers of epochs say how long to train.

        Numbers of steps are looked at with the input.
        """
        continued = self.beginning.continued
        if continued is None or continued.learning_rate is None or not start_step:
            return
        if self.config.training.numb_steps is None and start_step < schedule.num_steps:
            found = jump(schedule, start_step, continued.learning_rate)
            if found is not None:
                self.notes.append(
                    f"warning: the learning rate jumps from {found[0]:.3g} to {found[1]:.3g}: the "
                    "schedule or the number of epochs is another one than the run was begun with"
                )

    def _length(self, branches: Mapping[str, Assembled]) -> RunLength:
        return run_length(
            {name: item.branch for name, item in branches.items()},
            {name: item.sampler for name, item in branches.items()},
            self.config.training.numb_steps,
        )

    def _share(
        self,
        branches: Mapping[str, Assembled],
        moments: Mapping[str, InputMoments],
        probabilities: Mapping[str, float],
    ) -> None:
        links = links_of(self.config)
        models = {name: item.model for name, item in branches.items()}
        share(models, links)
        if moments:
            merge_statistics(models, links, moments, probabilities)

    def _final_change(
        self, tasks: Mapping[str, Task], progress: Progress
    ) -> Callable[[], None] | None:
        if not self.config.training.change_bias_after_training:
            return None
        seed = self.config.training.seed if isinstance(self.config.training.seed, int) else None

        def change() -> None:
            for task in tasks.values():
                change_final_bias(task, seed, progress.line)

        return change

    def _tensorboard(self) -> TensorBoard | None:
        training = self.config.training
        if not training.tensorboard:
            return None
        return TensorBoard(self.files.tensorboard, training.tensorboard_freq)

    def _write_normalised_input(self, model_params: Mapping[str, Any]) -> None:
        document = normalized(self.config)
        if isinstance(self.config, MultiTaskInput):
            document["model"] = model_params
        else:
            document["model"] = {**model_params, "info": document["model"]["info"]}
        write_json(self.files.normalised_input, document)

    def _announce(
        self, progress: Progress, tasks: Mapping[str, Task], length: RunLength, start_step: int
    ) -> None:
        for note in self.notes:
            progress.line(note)
        count = sum(p.numel() for _, p in all_parameters(tasks) if p is not None)
        progress.line(f"{count} parameters; on {self.device}")
        for name, task in tasks.items():
            sampler = task.stream.sampler
            label = (
                "" if len(tasks) == 1 else f"{name}, {length.probabilities[name]:.1%} of steps: "
            )
            progress.line(
                f"{label}{len(sampler.systems)} systems with "
                f"{sum(system.num_frames for system in sampler.systems)} frames"
            )
        begin = f"Start to train {length.num_steps} steps"
        progress.line(f"{begin}, {start_step} of them done before" if start_step else begin)
