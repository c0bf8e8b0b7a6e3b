"""Adjust the energy of each element in a model to data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.data.cells import check_labels
from dpa2.data.frames import Frames, named
from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from dpa2.formats.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel, tensors_to
from dpa2.training.drawn_frames import draw_frames
from dpa2.training.statistics import ENERGIES_UNTRAINED, StatisticsBuilder, change_bias
from dpa2.training.task import Task
from schemas.base.errors import CheckpointError, DataError
from schemas.checkpoint.branch_names import resolve_branch
from schemas.input.model import parse_model, preset_energies
from schemas.input.start import BiasMode
from schemas.input.weights import ATOMIC

# Axes:  F frames   N atoms   T types


@dataclass(frozen=True)
class BiasShift:
    """How the energies of the elements have changed.

    Attributes:
        mode: How they were fitted.
        type_map: Elements.
        before: (T,) eV.
        after: (T,) eV.
        observed: Whether each element occurs in the data.
        num_frames: Frames that were looked at.
        preset: Whether `preset_out_bias` gives the energy of each element; empty: of none.
    """

    mode: BiasMode
    type_map: list[str]
    before: list[float]
    after: list[float]
    observed: list[bool]
    num_frames: int
    preset: tuple[bool, ...] = ()

    @property
    def shift(self) -> list[float]:
        """Differences (T,) in eV."""
        return [new - old for old, new in zip(self.before, self.after, strict=True)]

    def document(self) -> dict[str, Any]:
        """Return the numbers for `--json`, eV."""
        return {
            "mode": self.mode,
            "frames": self.num_frames,
            "elements": {
                name: {
                    "before": self.before[i],
                    "after": self.after[i],
                    "shift": self.shift[i],
                    "in_data": self.observed[i],
                    **({"preset": True} if self.preset and self.preset[i] else {}),
                }
                for i, name in enumerate(self.type_map)
            },
        }


def adjust_bias(model: EnergyModel, batches: Sequence[Frames], mode: BiasMode) -> BiasShift:
    """Fit the energies of the elements of a model to labelled frames.

    Args:
        model: Its buffers are changed.
        batches: Frames with energies.
        mode: Whether to add, to replace, or to do nothing.

    Raises:
        DataError: When the frames have no energies, lack fparam or aparam, or are not finite.
        CheckpointError: When the model gives no numbers for right frames.
    """
    before = model.out_bias.tolist()
    given = preset_energies(model.config) or ()
    if mode != "none":
        for frames in batches:
            check_labels(frames)
    if mode == "change":
        _check_inputs(model, batches)
        change_bias(model, batches, lambda frames: atomic_energies(model, frames))
    elif mode == "set":
        _statistics(model, batches).fit_bias()
    if mode != "none" and not model.out_bias.isfinite().all():
        raise CheckpointError(
            "the model gives no numbers for these frames: energies of the elements would be nan",
            hint="its weights hold nan or inf; look at an earlier checkpoint of its run",
        )
    seen = {int(kind) for frames in batches for kind in np.unique(frames.atom_types)}
    return BiasShift(
        mode,
        list(model.type_map),
        before,
        model.out_bias.tolist(),
        [kind in seen for kind in range(len(model.type_map))],
        sum(frames.num_frames for frames in batches),
        tuple(energy is not None for energy in given) if mode != "none" else (),
    )


def normalise_parameters(model: EnergyModel, batches: Sequence[Frames]) -> None:
    """Normalise fparam and aparam, where the model takes them, by these frames.

    For a fitting net that has not learned yet; one that has relies on the statistics it knows.

    Raises:
        DataError: When the frames have none.
    """
    _statistics(model, batches).normalise_parameters()


def _statistics(model: EnergyModel, batches: Sequence[Frames]) -> StatisticsBuilder:
    return StatisticsBuilder(model, lambda: batches, None, lambda _: None)


def _check_inputs(model: EnergyModel, batches: Sequence[Frames]) -> None:
    fitting = model.fitting
    wanted = {"fparam": fitting.num_fparam, "aparam": fitting.num_aparam}
    for name, width in wanted.items():
        optional = name == "fparam" and fitting.has_default_fparam
        for frames in batches:
            values = getattr(frames, name)
            found = 0 if values is None else values.shape[-1]
            if width and found != width and not (optional and values is None):
                raise DataError(
                    f"{frames.system} has {found or 'no'} {name}; the model takes {width}",
                    hint=f"add {name}.npy to every set",
                )


def atomic_energies(model: EnergyModel, frames: Frames) -> NDArray[np.float64]:
    """Return the model's atomic energies (F, N) in eV; one frame at a time, for the memory."""
    parts = []
    for f in range(frames.num_frames):
        one = frames.select(np.array([f]))
        with named(one):
            graph = model.graph(one.coord, one.box, one.atom_types)
        fparam, aparam = (tensors_to(model.device, v) for v in (one.fparam, one.aparam))
        parts.append(model(graph, fparam, aparam).atom_energy.cpu().numpy())
    return np.concatenate(parts)


def change_final_bias(task: Task, seed: int | None, say: Callable[[str], None]) -> None:
    """Fit the remaining errors of the energy per element and add them to the model's bias.

    Args:
        task: The trained model and its data.
        seed: Of the choice of frames.
        say: Receives lines for the log.
    """
    if not task.loss.trains_energies:
        say(ENERGIES_UNTRAINED)
        return
    model = task.model
    frames = draw_frames(task.stream.sampler, model.config.data_stat_nbatch, seed, say)
    found = adjust_bias(model, frames, "change")
    say(f"Change output bias of {found.type_map} from {found.before} to {found.after}.")


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
