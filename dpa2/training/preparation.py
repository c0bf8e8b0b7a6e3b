"""Device, seeds and what is refused before a training."""

from collections.abc import Mapping
from typing import Any

import torch

from dpa2.model.layers import mix
from schemas.base.errors import TrainingError
from schemas.input.root import Input, MultiTaskInput
from schemas.input.unsupported import refuse


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
