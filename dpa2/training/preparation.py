"""What stands before a training: a checked input, a device, seeds."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dpa2.formats.checkpoint import Checkpoint
from dpa2.model.layers import mix
from schemas.base.errors import CheckpointError, ConfigError, TrainingError
from schemas.check.finetune import check_start, targets_of
from schemas.check.input_file import check_file, check_text, checked
from schemas.checkpoint.header import SETTINGS
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import Start, StartOption
from schemas.input.unsupported import refuse


def start_from(
    checkpoint: Checkpoint,
    option: StartOption,
    branch: str | None = None,
    *,
    use_pretrain_script: bool = False,
) -> Start:
    """Return the description of a checkpoint that checks of an input need."""
    return Start(
        option,
        str(checkpoint.path),
        checkpoint.model_params,
        steps=checkpoint.steps_done,
        branch=branch,
        use_pretrain_script=use_pretrain_script,
        settings=(checkpoint.state or {}).get(SETTINGS),
        last_rate=checkpoint.learning_rate,
    )


def refuse_idle_arguments(given: Mapping[str, tuple[bool, bool]]) -> None:
    """Refuse arguments that would be ignored.

    Args:
        given: By name, whether an argument is given and whether anything looks at it.

    Raises:
        ValueError: Names the first of them.
    """
    for name, (is_given, has_effect) in given.items():
        if is_given and not has_effect:
            raise ValueError(f"{name} has no effect here: it is for a model to start from")


def read_input(
    config: str | os.PathLike[str] | Mapping[str, Any] | Input | MultiTaskInput,
    overrides: Sequence[str],
    start: Start | None = None,
) -> tuple[Input | MultiTaskInput, list[str]]:
    """Return the checked input of a file, a mapping, or what is one already.

    Args:
        config: The input.
        overrides: Texts such as `training.numb_steps=1000`.
        start: The checkpoint to start from; the input must fit it, or takes over its networks.

    Returns:
        The input, and what to say about starting it there; nothing about one that is checked.

    Raises:
        ConfigError: When the input has faults.
        CheckpointError: When the checkpoint is of another model.
        ValueError: When changes are asked for of an input that is checked already.
    """
    takes_over = start is not None and start.use_pretrain_script
    if isinstance(config, (Input, MultiTaskInput)):
        if overrides or takes_over:
            raise ValueError(
                "overrides and use_pretrain_script apply to a file or a mapping, not to a checked "
                "input"
            )
        _check_start(config, start)
        return config, []
    # Faults of the start alone are looked for below, where it is known whose they are.
    early = start if takes_over or (start and start.option == "--finetune") else None
    if isinstance(config, Mapping):
        report = check_text(json.dumps(config), "input.json", overrides, early)
    else:
        report = check_file(Path(config), overrides, early)
    found = checked(report)
    return found, _check_start(found, start)


def _check_start(config: Input | MultiTaskInput, start: Start | None) -> list[str]:
    """Return what to say about starting an input from a checkpoint; raise what is wrong."""
    if start is None:
        return []
    findings = check_start(targets_of(config), start, config)
    for item in findings:
        if item.severity == "error":
            kind = CheckpointError if item.path == start.path else ConfigError
            raise kind(item.message, hint=item.hint)
    return [
        f"{item.severity}: {item.message}" + (f" ({item.hint})" if item.hint else "")
        for item in findings
        if item.severity == "warning" or start.option == "--restart"
    ]


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
            f"the device `{name}` cannot be used: {str(error).splitlines()[0]}",
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


def seed_global_generator(seed: Any) -> None:
    """Seed torch's generator, from which layers without a seed of their own draw, as deepmd-kit.

    Without a seed the generator starts anywhere: torch's default one differs in every process.
    """
    if seed is not None:
        torch.manual_seed(mix([0, *seed] if isinstance(seed, list) else [0, seed]))


def stream_seed(seed: Any, stream: int) -> int | None:
    """Return the seed of a stream of random numbers; None stays random."""
    if seed is None:
        return None
    number = seed[0] if isinstance(seed, list) else seed
    return int(number) if stream == 0 else int(number) * 2654435761 % 2**32 + stream
