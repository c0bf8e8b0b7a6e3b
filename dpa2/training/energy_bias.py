"""The energy of each element: fitted to data before, after or instead of training the network.

docs/deepmd-format.md, 5.3, 6.9.
"""

# Axes:  F frames of all systems together   N atoms   T atom types

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.data.cells import check_labels
from dpa2.data.frames import Frames, named
from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from dpa2.formats.weights import model_from_state, to_deepmd_state
from dpa2.model.energy import EnergyModel, tensors_to
from dpa2.training.moments import draw_frames, input_widths
from schemas.base.errors import CheckpointError, DataError
from schemas.checkpoint.branch_names import resolve_branch
from schemas.input.refusals import preset_energies
from schemas.input.start import BiasMode
from schemas.input.weights import ATOMIC

FloatArray = NDArray[np.float64]

ENERGIES_UNTRAINED = (
    "the loss trains no energies: the energies of the elements are not fitted to the data, nor "
    "taken from preset_out_bias (as in deepmd-kit)"
)
_HOW = {"change": "shifted by what the model leaves over", "set": "fitted anew"}


@dataclass(frozen=True)
class EnergyBias:
    """An energy per element and how far the data are from it.

    Attributes:
        bias: (T,) eV.
        std: (T,) eV: spread of the frames' energies around the fit (the same for all types), or
            of the energies of the atoms of a type where the data label them.
        rmse_per_atom: eV, of the fit; None when only energies of atoms are labelled.
    """

    bias: FloatArray
    std: FloatArray
    rmse_per_atom: float | None = None

    def write_to(self, model: EnergyModel) -> None:
        """Put the energies into the buffers of a model."""
        model.out_bias.copy_(torch.from_numpy(np.array(self.bias)))
        model.out_std.copy_(torch.from_numpy(np.array(self.std)))


def fit_energy_bias(
    batches: Sequence[Frames],
    num_types: int,
    *,
    preset: Sequence[float | None] | None = None,
    excluded_types: Collection[int] = (),
    predicted: Sequence[FloatArray] | None = None,
) -> EnergyBias:
    """Fit an energy per type to the labels of frames (docs/deepmd-format.md, 5.3).

    Energies of frames are fitted by least squares; the solution of smallest norm where the data
    leave a choice (elements in a fixed ratio). Where no frame has an energy, the energies of atoms
    are averaged. (deepmd-kit 3.2 fits the frames even where atoms are labelled.)

    Args:
        batches: The frames, those without energies included.
        num_types: T, length of the type map.
        preset: Energies that are given, eV, None for a type to fit; None when none is given.
        excluded_types: Types whose atoms contribute no energy.
        predicted: (F, N) eV per batch, or (F,): fit what these predictions leave over instead.

    Raises:
        DataError: When there are no energies at all.
    """
    given = np.array([np.nan if e is None else e for e in preset or [None] * num_types])
    labelled = [i for i, batch in enumerate(batches) if batch.energy is not None]
    if labelled:
        chosen = [batches[i] for i in labelled]
        energy = np.concatenate([batch.energy for batch in chosen])
        if predicted is not None:
            sums = [predicted[i].reshape(len(predicted[i]), -1).sum(axis=1) for i in labelled]
            energy = energy - np.concatenate(sums)
        counts = np.concatenate([type_counts(batch, num_types) for batch in chosen])
        counts[:, sorted(set(excluded_types))] = 0.0
        return _fit_frames(energy, counts, given)
    labelled = [i for i, batch in enumerate(batches) if batch.atom_energy is not None]
    if labelled:
        types = np.concatenate([batches[i].atom_types.ravel() for i in labelled])
        energy = np.concatenate(
            [batch.atom_energy.ravel() for batch in batches if batch.atom_energy is not None]
        )
        if predicted is not None:
            energy = energy - np.concatenate([predicted[i].ravel() for i in labelled])
        return _average_atoms(energy, types, given)
    raise DataError(
        "the training data have no energies, so that no energy per element can be fitted",
        hint="add energy.npy to the training data",
    )


def _fit_frames(energy: FloatArray, counts: FloatArray, given: FloatArray) -> EnergyBias:
    """Fit energies (F,) by numbers of atoms (F, T); `given` (T,) is nan where one is to fit."""
    # Preset energies leave the fit: their share is subtracted, their columns vanish.
    fixed = ~np.isnan(given)
    rest = energy - counts[:, fixed] @ given[fixed]
    free = counts.copy()
    free[:, fixed] = 0.0
    solved = np.linalg.lstsq(free, rest[:, None], rcond=None)[0]
    bias = solved[:, 0].astype(np.float64)
    bias[fixed] = given[fixed]
    std = float((rest - free @ bias).std())
    num_atoms = np.maximum(counts.sum(axis=1), 1.0)
    rmse = float(np.sqrt(np.mean(np.square((energy - counts @ bias) / num_atoms))))
    return EnergyBias(bias, np.full(len(given), std), rmse)


def _average_atoms(energy: FloatArray, types: NDArray[Any], given: FloatArray) -> EnergyBias:
    """Average energies of atoms by their types; `given` (T,) is nan where none is given."""
    bias, std = np.zeros(len(given), np.float64), np.ones(len(given), np.float64)
    for kind in range(len(given)):
        of_kind = energy[types == kind]
        if of_kind.size:
            bias[kind], std[kind] = of_kind.mean(), of_kind.std()
    fixed = ~np.isnan(given)
    bias[fixed] = given[fixed]
    return EnergyBias(bias, std)


def type_counts(batch: Frames, num_types: int) -> FloatArray:
    """Return (F, T) numbers of atoms."""
    return np.stack(
        [(batch.atom_types == kind).sum(axis=1) for kind in range(num_types)], -1
    ).astype(np.float64)


def fit_to_data(model: EnergyModel, batches: Sequence[Frames]) -> EnergyBias:
    """Fit the energies of the elements to frames, as the model's section asks for."""
    return fit_energy_bias(
        batches,
        len(model.type_map),
        preset=preset_energies(model.config),
        excluded_types=model.config.atom_exclude_types,
    )


def _fit_remainder(model: EnergyModel, batches: Sequence[Frames]) -> EnergyBias:
    """Return the energies with what the trained model leaves over added (`change-by-statistic`).

    Energies that `preset_out_bias` gives are what it says, whatever they were before. (deepmd-kit
    3.2.0 adds the preset to the energy that was there, every time.)
    """
    given = preset_energies(model.config) or [None] * len(model.type_map)
    before = model.out_bias.tolist()
    fitted = fit_energy_bias(
        batches,
        len(model.type_map),
        preset=[None if e is None else e - b for e, b in zip(given, before, strict=True)],
        excluded_types=model.config.atom_exclude_types,
        predicted=[atomic_energies(model, batch) for batch in batches],
    )
    shifts = zip(given, before, fitted.bias, strict=True)
    after = [b + step if e is None else e for e, b, step in shifts]
    return EnergyBias(np.array(after, dtype=np.float64), fitted.std)


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

    def lines(self) -> list[str]:
        """Return the energies of the elements before and after, one line each."""
        if self.mode == "none":
            return ["Energies of the elements are left as they are."]
        lines = [f"Energies of the elements, {_HOW[self.mode]} in {self.num_frames} frames (eV):"]
        width = max(len(name) for name in self.type_map)
        for i, name in enumerate(self.type_map):
            remark = "" if self.observed[i] else "  (not in the data)"
            if self.preset and self.preset[i]:
                remark = "  (preset_out_bias)"
            lines.append(
                f"  {name:<{width}}  {self.before[i]:>16.8f} -> {self.after[i]:>16.8f}"
                f"  {self.shift[i]:>+16.8f}{remark}"
            )
        return lines


def adjust_bias(model: EnergyModel, batches: Sequence[Frames], mode: BiasMode) -> BiasShift:
    """Fit the energies of the elements of a model to labelled frames, its network unchanged.

    Args:
        model: Its buffers are changed.
        batches: Frames with energies.
        mode: Whether to add, to replace, or to do nothing.

    Raises:
        DataError: When the frames have no energies, lack fparam or aparam, or are not finite.
        CheckpointError: When the model gives no numbers for right frames.
    """
    before = model.out_bias.tolist()
    preset: tuple[bool, ...] = ()
    if mode != "none":
        preset = tuple(energy is not None for energy in preset_energies(model.config) or ())
        for frames in batches:
            check_labels(frames)
        if mode == "change":
            _check_inputs(model, batches)
        (_fit_remainder if mode == "change" else fit_to_data)(model, batches).write_to(model)
        if not model.out_bias.isfinite().all():
            raise CheckpointError(
                "the model gives no numbers for these frames: energies of the elements would be "
                "nan",
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
        preset,
    )


def _check_inputs(model: EnergyModel, batches: Sequence[Frames]) -> None:
    for name, width in input_widths(model).items():
        optional = name == "fparam" and model.fitting.has_default_fparam
        for frames in batches:
            values = getattr(frames, name)
            found = 0 if values is None else values.shape[-1]
            if found != width and not (optional and values is None):
                raise DataError(
                    f"{frames.system} has {found or 'no'} {name}; the model takes {width}",
                    hint=f"add {name}.npy to every set",
                )


def atomic_energies(model: EnergyModel, frames: Frames) -> FloatArray:
    """Return the model's atomic energies (F, N) in eV; one frame at a time, for the memory."""
    parts = []
    for f in range(frames.num_frames):
        one = frames.select(np.array([f]))
        with named(one):
            graph = model.graph(one.coord, one.box, one.atom_types)
        fparam, aparam = (tensors_to(model.device, v) for v in (one.fparam, one.aparam))
        described = model.described(graph, gradient=False)
        energy_A = model.energies(described, graph, fparam, aparam).energy
        parts.append(graph.padded(energy_A).cpu().numpy())
    return np.concatenate(parts)


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
    network = model_from_state(section, tensors, checkpoint.path)
    network = network.requires_grad_(False).to(torch.device(device or "cpu"))
    systems = open_systems(list(data), network.type_map)
    most = max(system.num_frames for system in systems)
    frames = draw_frames(Sampler(systems, 1), max_frames or most, 0)
    if all(batch.energy is None for batch in frames):
        raise DataError("the data have no energies", hint="add energy.npy to the sets")
    shift = adjust_bias(network, frames, mode)
    everything = {known: checkpoint.branch(known)[1] for known in checkpoint.branches}
    changed = to_deepmd_state(network)
    everything[name] |= {ATOMIC + key: changed[ATOMIC + key] for key in ("out_bias", "out_std")}
    write_checkpoint(
        output,
        tensors=everything,
        model_params=checkpoint.model_params,
        step=checkpoint.step or 0,
        learning_rate=checkpoint.learning_rate or 0.0,
        optimizer=checkpoint.optimizer,
        ema=checkpoint.ema,
        state=checkpoint.state,
    )
    return RebiasedCheckpoint(Path(output), name, shift)
