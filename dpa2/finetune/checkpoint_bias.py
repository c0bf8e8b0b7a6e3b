"""`zoo bias`: other energies of the elements in a checkpoint, nothing else changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dpa2.convert.deepmd import ATOMIC, load_deepmd_state, to_deepmd_state
from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from dpa2.io.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from dpa2.model.build import build_model
from dpa2.training.bias import BiasShift, adjust_bias
from dpa2.training.drawn_frames import draw_frames
from schemas.checkpoint.branch_names import resolve_branch
from schemas.errors import DataError
from schemas.model import parse_model
from schemas.start import BiasMode

_CHANGED = (ATOMIC + "out_bias", ATOMIC + "out_std")


@dataclass(frozen=True)
class RebiasedCheckpoint:
    """What `rebias` has done.

    Attributes:
        path: The checkpoint written.
        branch: The branch that was changed.
        shift: How.
    """

    path: Path
    branch: str
    shift: BiasShift


def rebias(
    model: str | Path,
    data: Sequence[str],
    output: str | Path,
    *,
    branch: str | None = None,
    mode: BiasMode = "change",
    max_frames: int | None = None,
    device: str | None = None,
) -> RebiasedCheckpoint:
    """Fit the energies of the elements of a checkpoint to data and write it anew.

    Weights, optimiser and the other branches stay as they are, and so does where a restart goes on.

    Args:
        model: The checkpoint, of deepmd-kit or of ours.
        data: Systems, or folders with systems.
        output: The checkpoint to write; may be `model` itself.
        branch: Which branch: its name or an alias; may be left out where there is only one.
        mode: Add what the model leaves over, or replace the energies.
        max_frames: Frames to look at in each system, drawn with a fixed seed; None: all.
        device: Where to compute; default: the CPU.

    Raises:
        CheckpointError: When the model or the branch cannot be used.
        DataError: When the data cannot be used.
        TrainingError: When the file cannot be written.
    """
    checkpoint = read_checkpoint(model)
    name = resolve_branch(checkpoint.path, checkpoint.model_params, branch)
    section, tensors = checkpoint.branch(name)
    network = build_model(parse_model(section, checkpoint.path))
    load_deepmd_state(network, tensors)
    network = network.requires_grad_(False).to(torch.device(device or "cpu"))
    systems = open_systems(list(data), network.type_map)
    most = max(system.num_frames for system in systems)
    frames = draw_frames(Sampler(systems, 1), max_frames or most, 0)
    if all(batch.energy is None for batch in frames):
        raise DataError("the data have no energies", hint="add energy.npy to the sets")
    shift = adjust_bias(network, frames, mode)
    _write(checkpoint, name, to_deepmd_state(network), Path(output))
    return RebiasedCheckpoint(Path(output), name, shift)


def _write(
    checkpoint: Checkpoint, branch: str, changed: Mapping[str, Tensor], output: Path
) -> None:
    """Write the checkpoint with other energies in one branch."""
    tensors = {name: checkpoint.branch(name)[1] for name in checkpoint.branches}
    for key in _CHANGED:
        tensors[branch][key] = changed[key]
    write_checkpoint(
        output,
        tensors=tensors,
        model_params=checkpoint.model_params,
        step=checkpoint.step or 0,
        learning_rate=checkpoint.learning_rate or 0.0,
        optimizer=checkpoint.optimizer,
        ema=checkpoint.ema,
        state=checkpoint.state,
    )
