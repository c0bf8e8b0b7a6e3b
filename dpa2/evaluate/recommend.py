"""Comparison of a multi-task model's branches on a user's data, before any fine-tuning.

Every branch was trained on labels of one level of theory. Two levels differ by an energy per
element, which fine-tuning changes first, and by what is left: that is what is compared here.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.data.frames import PADDING, Frames, IntArray, named
from dpa2.data.structures.structure import LabelKeys
from dpa2.data.structures.systems import open_data
from dpa2.data.system import System
from dpa2.evaluate.comparison import (
    BadFrame,
    FrameChoice,
    choose_frames,
    evaluate_good,
    missing_parameter,
)
from dpa2.evaluate.potential import open_device
from dpa2.evaluate.recommendation import BranchFit, Recommendation, rank
from dpa2.formats.checkpoint import Checkpoint, read_checkpoint
from dpa2.formats.weights import model_from_state
from dpa2.model.energy import EnergyModel, tensors_to
from dpa2.training.energy_bias import fit_energy_bias, type_counts
from dpa2.training.moments import input_widths
from schemas.base.errors import CheckpointError, DataError, ZooError
from schemas.checkpoint.branch_names import aliases
from schemas.input.weights import DESCRIPTOR

# Axes:  F frames   N atoms per frame (padded)   A real atoms of all frames   D descriptor width


FloatArray = NDArray[np.float64]

_IRRELEVANT = frozenset({"seed", "trainable"})
"""Settings of a descriptor that do not change what it computes."""


@dataclass(frozen=True, slots=True)
class HeadPrediction:
    """What one head says.

    Attributes:
        energy: (F,) eV.
        force: (F, N, 3) eV/Å, zero for padding; None where it was not asked for.
    """

    energy: FloatArray
    force: FloatArray | None


class SharedHeads:
    """Branches that have one descriptor.

    Args:
        models: Branch by branch; all have the descriptor of the first.

    Attributes:
        type_map: Element of each type, the same for all branches.
        num_dropped: Pairs within the cutoff so far that were ignored for being beyond `nsel`.
    """

    def __init__(self, models: Mapping[str, EnergyModel]) -> None:
        self.models = dict(models)
        self._first = next(iter(self.models.values()))
        self.type_map = list(self._first.type_map)
        self.num_dropped = 0

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters that any branch takes: `fparam`, `aparam`."""
        taken = {name for model in self.models.values() for name in input_widths(model)}
        return [name for name in ("fparam", "aparam") if name in taken]

    def evaluate(self, frames: Frames, *, forces: bool) -> dict[str, HeadPrediction]:
        """Evaluate every head: one pass of the descriptor, and with forces one backward pass each.

        The backward pass cannot be shared: it is linear in dE/dD, and a sum of heads does not come
        apart again.

        Raises:
            FrameError: If frames have atoms at one place; names them.
        """
        with named(frames):
            graph = self._first.graph(frames.coord, frames.box, frames.atom_types)
        self.num_dropped += graph.num_dropped
        fparam = tensors_to(self._first.device, frames.fparam)
        aparam = tensors_to(self._first.device, frames.aparam)
        described = self._first.described(graph, gradient=forces)
        made = {
            name: model.energies(described, graph, fparam, aparam)
            for name, model in self.models.items()
        }
        if not forces:
            return {
                name: HeadPrediction(_array(graph.padded(found.energy).sum(dim=1)), None)
                for name, found in made.items()
            }
        last = next(reversed(made))
        predictions = {
            name: self.models[name].predict(found, graph, retain=name != last)
            for name, found in made.items()
        }
        return {
            name: HeadPrediction(_array(found.energy), _array(found.force))
            for name, found in predictions.items()
        }


def _array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().cpu().numpy())


def open_heads(
    checkpoint: Checkpoint, device: torch.device
) -> tuple[list[SharedHeads], dict[str, str]]:
    """Build all branches of a checkpoint, grouped by their descriptor.

    Returns:
        The groups, and for each branch that this engine cannot run the reason.
    """
    groups: list[tuple[dict[str, Any], Mapping[str, Tensor], dict[str, EnergyModel]]] = []
    problems: dict[str, str] = {}
    for name in checkpoint.branches:
        section, tensors = checkpoint.branch(name)
        try:
            model = model_from_state(section, tensors)
        except ZooError as error:
            problems[name] = error.message
            continue
        model.requires_grad_(False)
        what = _what_is_described(section)
        described = {key: t for key, t in tensors.items() if key.startswith(DESCRIPTOR)}
        for known, weights, models in groups:
            if known == what and _are_equal(weights, described):
                model.descriptor = next(iter(models.values())).descriptor
                models[name] = model.to(device).eval()
                break
        else:
            groups.append((what, described, {name: model.to(device).eval()}))
    return [SharedHeads(models) for _, _, models in groups], problems


def _what_is_described(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings on which a descriptor's value depends, weights aside."""
    descriptor = {k: v for k, v in section["descriptor"].items() if k not in _IRRELEVANT}
    others = {key: section.get(key) or [] for key in ("type_map", "pair_exclude_types")}
    return {"descriptor": descriptor, **others}


def _are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether weights are the same; those at one place in memory are not compared."""

    def is_same(a: Tensor, b: Tensor) -> bool:
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        same_place = a.data_ptr() == b.data_ptr() and a.stride() == b.stride()
        return same_place or torch.equal(a, b)

    return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)


COST_LIMIT = 1.3
"""Backward passes may cost so many times what those of one branch on all frames cost."""

_ATOMS_PER_CALL = 512
_LABELS = ["energy", "force"]


@dataclass(slots=True)
class _Tally:
    """What is known so far of one branch."""

    model: EnergyModel
    frames: list[Frames] = field(default_factory=list)
    energies: list[FloatArray] = field(default_factory=list)
    squared_force: float = 0.0
    num_force: int = 0


def recommend(
    model: str | os.PathLike[str],
    data: Sequence[str],
    *,
    keys: LabelKeys | None = None,
    num_frames: int | None = 32,
    all_forces: bool = False,
    strict: bool = False,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda _: None,
) -> Recommendation:
    """Rank the branches of a checkpoint by their errors on labelled frames.

    Branches that share a descriptor share its forward pass. Energies are compared on every frame.
    Forces take one backward pass per branch and frame; they are compared on so many evenly spaced
    frames that the cost stays within 1.3 times that of evaluating one branch (of each distinct
    descriptor) on all frames, but on one frame at least, which exceeds it where branches are many
    and frames few.

    Args:
        model: A checkpoint (`.pt`) of this project or of deepmd-kit.
        data: Roots of labelled systems, or files in a format of dpdata or ASE.
        keys: Which keys of such files hold the labels; None: by their names.
        num_frames: How many frames to look at, evenly spaced over all systems; None takes all.
        all_forces: Compare forces on every frame, whatever it costs.
        strict: Let the first bad frame end the comparison, instead of leaving it out.
        device: Where to compute.
        progress: Called with the number of frames done since the last call.

    Raises:
        CheckpointError: If the file is no checkpoint, or no branch of it can be evaluated.
        DataError: If the data cannot be read or have neither energies nor forces, or no frame can
            be evaluated.
        FrameError: If a frame is bad and `strict`.
    """
    target = open_device(device)
    checkpoint = read_checkpoint(Path(model))
    choice = choose_frames(open_data(data, keys=keys), num_frames)
    elements = choice.elements()
    sections = {name: checkpoint.branch(name)[0] for name in checkpoint.branches}
    coverage = {name: _coverage(section, elements) for name, section in sections.items()}
    groups, problems = open_heads(checkpoint, target)
    for group in groups:
        _drop_unusable(group, choice, coverage, problems)
    groups = [group for group in groups if group.models]
    tallies = {name: _Tally(found) for group in groups for name, found in group.models.items()}
    if not tallies:
        raise CheckpointError(
            f"no branch of {checkpoint.path} can be evaluated on these data",
            hint="; ".join(f"{name}: {problem}" for name, problem in problems.items()),
        )
    affordable = int(COST_LIMIT * choice.num_frames * len(groups) / len(tallies))
    with_force = choice.thinned("force", choice.num_frames if all_forces else affordable)
    bad: dict[str, BadFrame] = {}
    for group in groups:
        systems = open_data(data, group.type_map, keys=keys)
        for index, position in enumerate(choice.positions):
            labels = [*_LABELS, *group.parameters]
            chosen, forced = choice.frames[index], with_force[index]
            for frames, forces in _batches(systems[position], chosen, forced, labels):
                found = _compare(group, frames, tallies, forces=forces, strict=strict)
                bad |= {frame.name: frame for frame in found}
                progress(frames.num_frames)
    if len(bad) >= choice.num_frames:
        raise DataError("no frame can be evaluated", hint=str(next(iter(bad.values()))))
    fits = []
    for name, section in sections.items():
        missing, unseen = coverage[name]
        fit = BranchFit(name, aliases(section), missing, unseen, problems.get(name))
        fits.append(_with_errors(fit, tallies[name]) if name in tallies else fit)
    return Recommendation(
        branches=rank(fits),
        elements=[str(element) for element in elements],
        num_frames=choice.num_frames,
        num_energy_frames=choice.num_labelled("energy"),
        num_force_frames=sum(map(len, with_force)),
        num_descriptors=len(groups),
        warnings=[
            *(text for system in choice.systems for text in system.warnings),
            *_remarks(fits, choice, sum(group.num_dropped for group in groups)),
        ],
        bad=list(bad.values()),
    )


def _coverage(
    section: Mapping[str, Any], elements: Sequence[str | int]
) -> tuple[list[str], list[str]]:
    """Return the elements without a type, and those that have one but were not in the training."""
    type_map = [str(name) for name in section.get("type_map", [])]
    observed = (section.get("info") or {}).get("observed_type") or type_map
    numbered = dict(enumerate(type_map))
    names = [numbered.get(e, f"type {e}") if isinstance(e, int) else e for e in elements]
    missing = [name for name in names if name not in type_map]
    return missing, [n for n in names if n in type_map and n not in observed]


def _drop_unusable(
    group: SharedHeads,
    choice: FrameChoice,
    coverage: Mapping[str, tuple[list[str], list[str]]],
    problems: dict[str, str],
) -> None:
    """Take branches out that cannot be evaluated on the data, and say why in `problems`."""
    for name in list(group.models):
        missing, _ = coverage[name]
        problem = f"has no type for {', '.join(missing)}" if missing else None
        widths = input_widths(group.models[name])
        has_default = group.models[name].fitting.has_default_fparam
        for system in choice.systems:
            try:
                lacks = missing_parameter(system, widths, has_default_fparam=has_default)
            except DataError as error:
                lacks = error.message
            problem = lacks or problem
        if problem is not None:
            problems[name] = problem
            del group.models[name]


def _batches(
    system: System, chosen: IntArray, with_force: IntArray, labels: Sequence[str]
) -> Iterator[tuple[Frames, bool]]:
    """Yield (frames, whether their forces are compared), a few frames at a time."""
    step = max(1, _ATOMS_PER_CALL // max(1, system.num_atoms))
    without = np.setdiff1d(chosen, with_force)
    for numbers, forces in ((with_force, True), (without, False)):
        for start in range(0, len(numbers), step):
            yield system.frames(numbers[start : start + step], labels), forces


def _compare(
    group: SharedHeads,
    frames: Frames,
    tallies: Mapping[str, _Tally],
    *,
    forces: bool,
    strict: bool,
) -> list[BadFrame]:
    """Add the errors of the good frames of a batch; return the bad ones."""
    if not forces and frames.energy is None:
        return []
    found = evaluate_good(frames, lambda part: group.evaluate(part, forces=forces), strict=strict)
    frames = found.frames
    real = frames.atom_types != PADDING
    for name, predicted in (found.result or {}).items():
        tally = tallies[name]
        tally.frames.append(frames)
        tally.energies.append(predicted.energy)
        if predicted.force is not None and frames.force is not None:
            difference = (predicted.force - frames.force)[real]
            tally.squared_force += float(np.sum(difference**2))
            tally.num_force += difference.size
    return found.bad


def _with_errors(fit: BranchFit, tally: _Tally) -> BranchFit:
    """Add the errors of a branch, its energies shifted to those of the data."""
    if tally.num_force:
        error = float(np.sqrt(tally.squared_force / tally.num_force))
        fit = replace(fit, force_rmse=error, num_force=tally.num_force)
    labelled = [frames for frames in tally.frames if frames.energy is not None]
    if not labelled:
        return fit
    model = tally.model
    num_types = len(model.type_map)
    excluded = [kind for kind in model.config.atom_exclude_types if 0 <= kind < num_types]
    fitted = fit_energy_bias(
        tally.frames, num_types, predicted=tally.energies, excluded_types=excluded
    )
    counts = np.concatenate([type_counts(frames, num_types) for frames in labelled])
    counts[:, excluded] = 0.0
    present = np.flatnonzero(counts.any(axis=0)).tolist()
    shift = {model.type_map[kind]: float(fitted.bias[kind]) for kind in present}
    # Without one more frame than compositions the shift alone reproduces every energy.
    num_energy = len(counts) - int(np.linalg.matrix_rank(counts))
    left = fitted.rmse_per_atom if num_energy else None
    return replace(fit, energy_rmse=left, num_energy=num_energy, shift=shift)


def _remarks(fits: Sequence[BranchFit], choice: FrameChoice, num_dropped: int) -> list[str]:
    remarks = []
    evaluated = [fit for fit in fits if fit.problem is None]
    if choice.num_labelled("energy") and all(fit.energy_rmse is None for fit in evaluated):
        few = "an energy per element fits the energies of so few frames exactly"
        remarks.append(f"energies are not compared: {few}; give more frames")
    if num_dropped:
        what = f"{num_dropped} neighbour pairs in {choice.num_frames} frames"
        remarks.append(f"the model ignores {what}: atoms have more neighbours than its nsel")
    return remarks
