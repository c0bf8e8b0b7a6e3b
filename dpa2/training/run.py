"""`train`: from an input file to a finished run."""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.model.build import share
from dpa2.training.display import Display, LearningCurve, Progress, TensorBoard, choose_progress
from dpa2.training.full_validation import full_validations
from dpa2.training.moments import merge_statistics
from dpa2.training.optimizer import ParameterAverage, Tuning, build_optimizer
from dpa2.training.plan import run_length
from dpa2.training.run_folder import RunFolder
from dpa2.training.start import Scratch, choose_start, read_input
from dpa2.training.task import (
    Task,
    assemble,
    seed_global_generator,
    stream_seed,
)
from dpa2.training.train_state import TaskSampler, TrainState, all_parameters
from dpa2.training.trainer import Trainer, TrainResult
from schemas.base.errors import ConfigError, TrainingError, first_line
from schemas.base.terminal import lasting_output
from schemas.base.writing import write_json
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.checkpoint.header import SETTINGS
from schemas.input.differences import settings_of
from schemas.input.refusals import refuse
from schemas.input.root import Input, MultiTaskInput, normalized
from schemas.input.schedule import Schedule, build_schedule, jump
from schemas.input.start import BiasMode, Start, StartOption


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name; None: a GPU if there is one.

    Raises:
        TrainingError: When it cannot be used.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            f"the device `{name}` cannot be used: {first_line(error)}",
            hint="use --device cpu, or install a PyTorch that supports this GPU",
        ) from error
    return device


_NUMBERS_OF_PROCESSES = {
    "WORLD_SIZE": "torchrun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "SLURM_STEP_NUM_TASKS": "srun",
}
"""Where launchers say how many processes they have started. What a batch job may start
(SLURM_NTASKS) is not among them: its script is one process."""


def refuse_several_processes(environment: Mapping[str, str]) -> None:
    """Refuse to be one of several processes: each would train the same, over the others' files.

    Args:
        environment: The variables of the process.

    Raises:
        TrainingError: When a launcher has started more than one.
    """
    for name, launcher in _NUMBERS_OF_PROCESSES.items():
        number = environment.get(name, "")
        if number.isdigit() and int(number) > 1:
            raise TrainingError(
                f"{launcher} has started {number} processes ({name}), but training on several "
                "processes is not supported yet",
                hint=f"start one without {launcher}: zoo train INPUT; or train this input with "
                "deepmd-kit: torchrun ... dp --pt train INPUT",
            )


def refuse_unsupported(config: Input | MultiTaskInput) -> None:
    """Refuse what the input may ask of deepmd-kit but not of us, instead of ignoring it.

    A checked input has none of it (the validator asks the same functions); one that was built
    otherwise may.
    """
    refuse(config.optimizer, "optimizer")
    refuse(config.training, "training")
    if isinstance(config, Input):
        refuse(config.nvnmd, "nvnmd")
        refuse(config.model, "model")
        refuse(config.loss, "loss")
        return
    for name, branch in config.branches.items():
        refuse(branch.model, "model", f"model.model_dict.{name}")
        refuse(branch.loss, "loss", f"loss_dict.{name}")


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
    named: dict[StartOption, Any] = {
        "--restart": restart,
        "--init-model": init_model,
        "--finetune": finetune,
    }
    given = [option for option, file in named.items() if file is not None]
    if len(given) > 1:
        raise ConfigError(
            "--restart, --init-model and --finetune exclude each other",
            hint="--restart continues a run; --init-model starts a new one from its weights; "
            "--finetune does so on other data",
        )
    is_finetuned = finetune is not None
    for name, is_idle in {
        "branch": branch is not None and not is_finetuned,
        "bias_mode": bias_mode is not None and not is_finetuned,
        "tuning": tuning not in (None, Tuning()) and not is_finetuned,
        "use_pretrain_script": use_pretrain_script and not is_finetuned and init_model is None,
    }.items():
        if is_idle:
            raise ValueError(f"{name} has no effect here: it is for a model to start from")
    start, checkpoint = None, None
    if given:
        checkpoint = read_checkpoint(Path(named[given[0]]))
        start = Start(
            given[0],
            str(checkpoint.path),
            checkpoint.model_params,
            steps=checkpoint.steps_done,
            branch=branch,
            use_pretrain_script=use_pretrain_script,
            bias_mode=bias_mode,
            settings=(checkpoint.state or {}).get(SETTINGS),
            last_rate=checkpoint.learning_rate,
        )
    checked, notes = read_input(config, overrides, start)
    return run(
        checked,
        choose_start(checked, start, checkpoint, tuning),
        RunFolder(checked, Path(output_dir or "."), output),
        notes=notes,
        force=force,
        device=device,
        progress=progress,
    )


def run(
    config: Input | MultiTaskInput,
    start: Scratch,
    files: RunFolder,
    *,
    notes: Sequence[str] = (),
    force: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train with a checked input.

    Args:
        config: The input.
        start: What the run starts from.
        files: Where everything is written.
        notes: What to say first.
        force: Write over the files of another run.
        device: `cpu`, `cuda` ...; default: a GPU if there is one.
        progress: Show a bar (terminal, notebook) or lines.

    Raises:
        ZooError: As `train`.
    """
    refuse_several_processes(os.environ)
    chosen = choose_device(device)
    refuse_unsupported(config)
    said = list(notes)
    # The caller's random numbers stay as they are.
    with lasting_output(), torch.random.fork_rng(devices=[]), files.held(said.append):
        seed_global_generator(config.training.seed)
        if not force:
            files.refuse_used(start.continued)
        result = _Run(config, files, chosen, start, said).execute(shows_progress=progress)
    return replace(result, provenance=start.provenance)


@dataclass
class _Run:
    """The parts of one training, put together in the order in which they depend on each other."""

    config: Input | MultiTaskInput
    files: RunFolder
    device: torch.device
    start: Scratch
    notes: list[str]

    def execute(self, *, shows_progress: bool) -> TrainResult:
        """Build, train, and tell what came out."""
        config = self.config.training
        tasks = assemble(self.config, self.device, self.notes.append)
        moments = self.start.prepare(tasks, self.notes.append)
        samplers = {name: task.sampler for name, task in tasks.items()}
        num_steps, shares = run_length(self.config.branches, samplers, config.numb_steps)
        models = {name: task.model for name, task in tasks.items()}
        share(models, self.config.links)
        if moments:
            merge_statistics(models, self.config.links, moments, shares)
        state = self._state(tasks, shares, num_steps)
        start_step = self.start.resume(state)
        self._write_normalised_input(state.model_params)  # what cannot go on leaves nothing
        self._note_jump(state.schedule, start_step)
        resume_after = None if self.start.continued is None else start_step
        stores = self.files.stores(num_steps)
        for store in stores:
            store.prepare(start_step)
        validations = full_validations(self.config, state, self.files, resumed_at=resume_after)
        with (
            closing(LearningCurve(self.files.curve, resume_after)) as curve,
            choose_progress(start_step, num_steps, shown=shows_progress) as progress,
        ):
            self._announce(progress, state, shares, start_step)
            tensorboard = None
            if config.tensorboard:
                tensorboard = TensorBoard(self.files.tensorboard, config.tensorboard_freq)
            display = Display(config, curve, progress, state.window, state.tasks)
            trainer = Trainer(config, state, *stores, display, tensorboard, validations)
            return trainer.run(start_step)

    def _note_jump(self, schedule: Schedule, start_step: int) -> None:
        """Say that the rate jumps where numbers of epochs say how long to train.

        Numbers of steps are looked at with the input.
        """
        continued = self.start.continued
        if continued is None or continued.learning_rate is None or not start_step:
            return
        if self.config.training.numb_steps is None and start_step < schedule.num_steps:
            found = jump(schedule, start_step, continued.learning_rate)
            if found is not None:
                self.notes.append(
                    f"warning: the learning rate jumps from {found[0]:.3g} to {found[1]:.3g}: the "
                    "schedule or the number of epochs is another one than the run was begun with"
                )

    def _write_normalised_input(self, model_params: Mapping[str, Any]) -> None:
        document = normalized(self.config)
        if isinstance(self.config, MultiTaskInput):
            document["model"] = model_params
        else:
            document["model"] = {**model_params, "info": document["model"]["info"]}
        write_json(self.files.normalised_input, document)

    def _state(
        self, tasks: Mapping[str, Task], shares: Mapping[str, float], num_steps: int
    ) -> TrainState:
        """Return what is trained, before anything of a checkpoint is loaded into it."""
        config = self.config.training
        parameters = all_parameters(tasks)
        sections = {name: task.model_params for name, task in tasks.items()}
        model_params = sections.get(SINGLE_TASK_BRANCH, {})
        if isinstance(self.config, MultiTaskInput):  # docs/deepmd-format.md, 4.5
            model_params = {"shared_dict": self.config.shared_dict, "model_dict": sections}
        schedule = build_schedule(self.config.learning_rate, num_steps)
        factors = self.start.tuning.factors(name for name, _ in parameters)
        return TrainState(
            tasks=tasks,
            schedule=schedule,
            optimizer=build_optimizer(
                self.config.optimizer, parameters, schedule.start_lr, factors
            ),
            average=ParameterAverage(parameters, config.ema_decay) if config.enable_ema else None,
            model_params=model_params,
            task_sampler=TaskSampler(shares, stream_seed(config.seed, 2 * len(tasks))),
            tuning=self.start.tuning,
            settings=settings_of(self.config),
        )

    def _announce(
        self, progress: Progress, state: TrainState, shares: Mapping[str, float], start_step: int
    ) -> None:
        for note in self.notes:
            progress.line(note)
        count = sum(p.numel() for _, p in state.parameters if p is not None)
        progress.line(f"{count} parameters; on {self.device}")
        for name, task in state.tasks.items():
            systems = task.sampler.systems
            label = "" if len(state.tasks) == 1 else f"{name}, {shares[name]:.1%} of steps: "
            frames = sum(system.num_frames for system in systems)
            progress.line(f"{label}{len(systems)} systems with {frames} frames")
        begin = f"Start to train {state.schedule.num_steps} steps"
        progress.line(f"{begin}, {start_step} of them done before" if start_step else begin)
