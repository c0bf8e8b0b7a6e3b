"""Frames evaluated, bad ones left out, and compared with their labels: MAE and RMSE.

Axes: F frames, A atoms of all frames together, padding left out.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import check_labels
from dpa2.data.frames import PADDING, Fault, FrameError, Frames, IntArray
from dpa2.data.system import System
from dpa2.formats.structures import Evaluation
from schemas.base.errors import DataError


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Frames of some systems.

    Attributes:
        systems: Opened without a model's type map.
        positions: Where each stood in the list that was chosen from.
        frames: Frame numbers, system by system.
    """

    systems: list[System]
    positions: list[int]
    frames: list[IntArray]

    @property
    def num_frames(self) -> int:
        """How many frames there are."""
        return sum(map(len, self.frames))

    def num_labelled(self, label: str) -> int:
        """Return how many of the frames have a label."""
        return sum(map(len, self._labelled(label)))

    def thinned(self, label: str, number: int) -> list[IntArray]:
        """Return at most `number` of the frames that have a label, evenly spaced, at least one."""
        labelled = self._labelled(label)
        total = sum(map(len, labelled))
        kept = set(_spaced(total, max(1, number)).tolist())
        ends = np.cumsum([0, *map(len, labelled)])
        return [
            frames[[index + offset in kept for index in range(len(frames))]]
            for frames, offset in zip(labelled, ends.tolist(), strict=False)
        ]

    def elements(self) -> list[str | int]:
        """Return the elements in the systems; the numbers of types where data do not name them."""
        found: dict[str | int, None] = {}
        for system in self.systems:
            names = system.type_map
            for kind in system.type_counts():
                found[kind if names is None else names[kind]] = None
        return list(found)

    def _labelled(self, label: str) -> list[IntArray]:
        return [
            frames if system.has(label) else frames[:0]
            for system, frames in zip(self.systems, self.frames, strict=True)
        ]


def choose_frames(systems: Sequence[System], num_frames: int | None) -> FrameChoice:
    """Choose frames evenly spaced over all systems, in proportion to their length.

    Args:
        systems: Where to choose from; those without frames are left out.
        num_frames: How many, if there are as many; None takes all.

    Raises:
        DataError: If there are no frames, or none with energies or forces.
    """
    if not any(system.num_frames for system in systems):
        raise DataError("the data have no frames", hint="give systems with labelled frames")
    labelled = [system.has("energy") or system.has("force") for system in systems]
    lengths = [s.num_frames if known else 0 for s, known in zip(systems, labelled, strict=True)]
    ends = np.cumsum([0, *lengths])
    total = int(ends[-1])
    if not total:
        raise DataError(
            "the data have neither energies nor forces to compare with",
            hint="add energy.npy or force.npy, as training data have",
        )
    picked = _spaced(total, total if num_frames is None else num_frames)
    frames = [
        picked[(picked >= start) & (picked < end)] - start for start, end in pairwise(ends.tolist())
    ]
    kept = [position for position, numbers in enumerate(frames) if len(numbers)]
    return FrameChoice([systems[i] for i in kept], kept, [frames[i] for i in kept])


def _spaced(total: int, number: int) -> IntArray:
    """Return `number` of 0 ... total - 1, evenly spaced; all of them if there are no more."""
    if number >= total:
        return np.arange(total, dtype=np.int64)
    return ((np.arange(number, dtype=np.int64) * 2 + 1) * total) // (2 * number)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that could not be evaluated.

    Attributes:
        name: How messages call it: system and number.
        system: Name of its system.
        frame: Its number there, from 0.
        reason: What is wrong with it.
    """

    name: str
    system: str
    frame: int
    reason: str

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.name}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {"system": self.system, "frame": self.frame, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Evaluated(Generic[T]):
    """What came of a batch of frames.

    Attributes:
        good: (G,) positions of the good frames in the batch.
        frames: The good frames.
        result: What the function said of them; None without any.
        bad: The others.
    """

    good: NDArray[np.int64]
    frames: Frames
    result: T | None
    bad: list[BadFrame]


def evaluate_good(
    frames: Frames,
    evaluate: Callable[[Frames], T],
    need: Collection[str] | None = None,
    *,
    strict: bool = False,
) -> Evaluated[T]:
    """Evaluate the frames of a batch that can be evaluated.

    A batch with bad frames is evaluated again without them.

    Args:
        frames: The batch.
        evaluate: Raises `FrameError` for bad frames.
        need: Labels that must be finite; None: all that are there.
        strict: Raise the first error instead.

    Raises:
        FrameError: If a frame is bad and `strict`.
    """
    good = np.arange(frames.num_frames)
    faults: dict[int, Fault] = {}
    result: T | None = None
    while len(good):
        part = frames if len(good) == frames.num_frames else frames.select(good)
        try:
            check_labels(part, need)
            result = evaluate(part)
            break
        except FrameError as error:
            if strict:
                raise
            faults |= {int(good[place]): fault for place, fault in error.faults.items()}
            good = np.delete(good, list(error.faults))
    bad = [
        BadFrame(
            frames.name_of(place),
            frames.source(place),
            int(frames.indices[place]),
            faults[place].reason,
        )
        for place in sorted(faults)
    ]
    return Evaluated(good, frames.select(good), result, bad)


def missing_parameter(
    system: System, widths: Mapping[str, int], *, has_default_fparam: bool
) -> str | None:
    """Return what a system lacks of the parameters that a model takes; None if it lacks nothing.

    Args:
        system: The data.
        widths: How many values of `fparam` and `aparam` the model takes.
        has_default_fparam: Whether fparam may be left out.

    Raises:
        DataError: If the file of a parameter cannot be used.
    """
    for label, width in widths.items():
        found = system.width(label) if width else 0
        is_left_out = found is None and label == "fparam" and has_default_fparam
        if found != width and not is_left_out:
            return f"needs {width} {label} values, and {system.name} has {found or 'none'}"
    return None


def with_gaps(
    values: NDArray[np.float64], good: NDArray[np.int64], num_frames: int
) -> NDArray[np.float64]:
    """Return rows (G, ...) of the good frames among rows of NaN for the bad ones, (F, ...)."""
    if len(good) == num_frames:
        return values
    rows = np.full((num_frames, *values.shape[1:]), np.nan)
    rows[good] = values
    return rows


FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One line of the error table: its name for people and its unit."""

    label: str
    unit: str


QUANTITIES = {
    "energy": Quantity("Energy", "eV"),
    "energy_per_atom": Quantity("Energy/atom", "eV"),
    "force": Quantity("Force", "eV/Å"),
    "force_weighted": Quantity("Force, weighted", "eV/Å"),
    "virial": Quantity("Virial", "eV"),
    "virial_per_atom": Quantity("Virial/atom", "eV"),
    "stress": Quantity("Stress", "eV/Å³"),
    "atom_energy": Quantity("Atom energy", "eV"),
}
"""All quantities, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Labels and predictions of one quantity, of equal shape.

    Attributes:
        reference: Labels, (F,), (F, 3, 3), (A,) or (A, 3).
        prediction: What the model says, same shape.
        weights: Weight of each number, or None where all count once.
    """

    reference: FloatArray
    prediction: FloatArray
    weights: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Some frames of one system as labelled and as predicted.

    Attributes:
        system: Name of the system.
        num_frames: F.
        pairs: The quantities that the data has labels for, in the order of `QUANTITIES`.
        atom_types: (A,) type of each row of the pairs that count per atom.
    """

    system: str
    num_frames: int
    pairs: dict[str, Pair]
    atom_types: IntArray


def compare(frames: Frames, evaluation: Evaluation) -> Comparison:
    """Set the labels of `frames` beside the predictions; what has no label is left out.

    Per-atom values divide by the number of real atoms, and padding is not compared (deepmd-kit
    counts padded atoms as perfectly predicted ones; where nothing is padded the two agree).
    """
    real = frames.atom_types != PADDING
    num_atoms = frames.real_atoms.astype(np.float64)
    pairs: dict[str, Pair] = {}
    if frames.energy is not None:
        pairs["energy"] = Pair(frames.energy, evaluation.energy)
        pairs["energy_per_atom"] = Pair(frames.energy / num_atoms, evaluation.energy / num_atoms)
    if frames.force is not None:
        force = Pair(frames.force[real], evaluation.force[real])
        pairs["force"] = force
        if frames.atom_pref is not None:
            weights = frames.atom_pref[real]
            pairs["force_weighted"] = Pair(force.reference, force.prediction, weights)
    if frames.virial is not None and frames.box is not None:
        per_frame = num_atoms[:, None, None]
        volume = np.abs(np.linalg.det(frames.box))[:, None, None]
        pairs["virial"] = Pair(frames.virial, evaluation.virial)
        pairs["virial_per_atom"] = Pair(frames.virial / per_frame, evaluation.virial / per_frame)
        pairs["stress"] = Pair(-frames.virial / volume, -evaluation.virial / volume)
    if frames.atom_energy is not None and evaluation.atom_energy is not None:
        pairs["atom_energy"] = Pair(frames.atom_energy[real], evaluation.atom_energy[real])
    return Comparison(frames.system, frames.num_frames, pairs, frames.atom_types[real])


@dataclass(frozen=True, slots=True)
class ErrorStat:
    """The error of one quantity over some numbers.

    Attributes:
        mae: Mean absolute error, in the quantity's unit.
        rmse: Root mean square error, in the quantity's unit.
        weight: How many numbers it was taken over (3 per atom for forces, 9 per frame for virials).
    """

    mae: float
    rmse: float
    weight: float


Errors = dict[str, ErrorStat]
"""Errors by the key of their quantity (see `quantities.QUANTITIES`)."""


def error_stat(
    difference: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> ErrorStat:
    """Reduce differences of any shape to their MAE and RMSE, weighted where weights are given.

    Weights that sum to nothing give zero errors of zero weight, which no average then notices.
    """
    total = float(difference.size) if weights is None else float(weights.sum())
    if total <= 0.0:
        return ErrorStat(0.0, 0.0, 0.0)
    if weights is None:
        weights = np.ones_like(difference)
    mae = float(np.sum(weights * np.abs(difference)) / total)
    rmse = float(np.sqrt(np.sum(weights * difference**2) / total))
    return ErrorStat(mae, rmse, total)


def errors_of(comparison: Comparison) -> Errors:
    """Compute the error of every quantity that the data has labels for."""
    return {
        key: error_stat(pair.prediction - pair.reference, pair.weights)
        for key, pair in comparison.pairs.items()
    }


def merge(parts: Iterable[Mapping[str, ErrorStat]]) -> Errors:
    """Combine errors over disjoint data exactly: mean of MAE, root of the mean of RMSE squared.

    Each part counts by its weight, the number of compared numbers (docs/deepmd-format.md, 7.1).
    A quantity that only some parts have is averaged over those.
    """
    stats: dict[str, list[ErrorStat]] = {}
    for part in parts:
        for key, stat in part.items():
            stats.setdefault(key, []).append(stat)
    return {key: _merge_one(stats[key]) for key in QUANTITIES if key in stats}


def _merge_one(stats: list[ErrorStat]) -> ErrorStat:
    weights = np.array([stat.weight for stat in stats])
    total = float(weights.sum())
    if total <= 0.0:
        return ErrorStat(0.0, 0.0, 0.0)
    mae = float(weights @ np.array([stat.mae for stat in stats]) / total)
    mean_square = float(weights @ np.array([stat.rmse for stat in stats]) ** 2 / total)
    return ErrorStat(mae, float(np.sqrt(mean_square)), total)
