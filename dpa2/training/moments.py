"""Frames drawn for the statistics, and the moments of what goes into the networks.

docs/deepmd-format.md, 5.2, 5.5.
"""

# Axes:  E pairs of atoms   R = the four columns (s, s x/r, s y/r, s z/r) of the environment matrix

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.data.cells import far_enough
from dpa2.data.frames import Frames, IntArray, one_frame
from dpa2.data.sampler import Sampler
from dpa2.data.system import System
from dpa2.model.energy import EnergyModel
from dpa2.model.environment import EnvironmentStatistics, environment_matrix
from dpa2.model.neighbors import pairs_within
from schemas.base.errors import DataError
from schemas.input.root import Link

FloatArray = NDArray[np.float64]

SMALLEST_SPREAD = 1e-2
"""A smaller standard deviation is replaced by this, so that dividing by it is harmless."""
UNSEEN_SPREAD = 1e-1
"""Standard deviation of a type that the data do not contain."""


Say = Callable[[str], None]

_FRAMES_AT_ONCE = 4096


def draw_frames(
    sampler: Sampler, num_batches: int, seed: int | None, say: Say | None = None
) -> list[Frames]:
    """Return up to `num_batches` batches of each system, drawn at random without repetition.

    Atoms are in the order of the training.

    An element that no drawn frame has would get no energy, silently: frames that have it are added
    (deepmd-kit 3.2 leaves its energy at 0). Where nothing is missing, nothing is added. The sampler
    lends its systems and batch sizes; its own stream is not touched.

    Args:
        sampler: Its systems and batch sizes.
        num_batches: Batches of each system.
        seed: Of the choice.
        say: Receives a line for the log where frames were added.
    """
    drawn: list[Frames] = []
    for number, (system, size) in enumerate(zip(sampler.systems, sampler.batch_sizes, strict=True)):
        order = np.random.default_rng([seed or 0, number]).permutation(system.num_frames)
        drawn += _read(sampler, system, np.sort(order[: num_batches * size]))
    counts = [num_batches * size for size in sampler.batch_sizes]
    for number, indices in frames_of_missing_types(sampler.systems, drawn, counts):
        system = sampler.systems[number]
        added = _read(sampler, system, indices)
        if added and say is not None:
            kinds = np.setdiff1d(added[0].atom_types, [k for f in drawn for k in f.atom_types.flat])
            names = ", ".join((system.type_map or [])[kind] for kind in kinds.tolist())
            say(
                f"the frames drawn for the statistics have no {names}: "
                f"{added[0].num_frames} frames of {system.name} that have it are added"
            )
        drawn += added
    if not drawn:
        raise DataError(
            f"no frame is left for the statistics: all have atoms closer than min_pair_dist "
            f"{sampler.min_pair_dist} Å",
            hint="lower training_data.min_pair_dist, or check that coordinates are in Å",
        )
    return drawn


def _read(sampler: Sampler, system: System, indices: IntArray) -> list[Frames]:
    """Return the frames that are far enough apart, if any."""
    frames = system.frames(indices, _labels(system, sampler))
    if sampler.min_pair_dist > 0:
        frames = frames.select(far_enough(frames, sampler.min_pair_dist))
    return [frames.sorted_by_type()] if frames.num_frames else []


def _labels(system: System, sampler: Sampler) -> list[str] | None:
    """Return what to read for statistics: energies, and what the training reads."""
    if sampler.need is None:
        return None
    return sorted(sampler.need | (system.labels & {"energy", "atom_energy"}))


def frames_of_missing_types(
    systems: Sequence[System], drawn: Sequence[Frames], at_most: Sequence[int]
) -> Iterator[tuple[int, IntArray]]:
    """Yield, for systems that have types which no drawn frame has, frames that have these.

    Only systems whose types differ from frame to frame can have them.

    Args:
        systems: Where frames were drawn.
        drawn: What was drawn.
        at_most: How many frames of each system.

    Yields:
        Position of the system, and numbers of its frames.
    """
    seen = {int(kind) for frames in drawn for kind in np.unique(frames.atom_types)}
    for position, system in enumerate(systems):
        missing = [kind for kind in system.type_counts() if kind not in seen]
        if not missing:
            continue
        chosen = _spread(system, missing, at_most[position])
        if len(chosen):
            seen |= {int(kind) for kind in np.unique(system.atom_types(chosen))}
            yield position, chosen


def _spread(system: System, types: Collection[int], at_most: int) -> IntArray:
    """Return frames with any of some types: of each type as many as of the others, in order."""
    have: dict[int, list[int]] = {kind: [] for kind in types}
    for start in range(0, system.num_frames, _FRAMES_AT_ONCE):
        numbers = np.arange(start, min(start + _FRAMES_AT_ONCE, system.num_frames))
        kinds = system.atom_types(numbers)
        for kind in have:
            have[kind] += numbers[(kinds == kind).any(axis=1)].tolist()
    share = max(1, at_most // len(have))
    return np.array(sorted({f for frames in have.values() for f in frames[:share]}), dtype=np.int64)


def input_widths(model: EnergyModel) -> dict[str, int]:
    """Return the width of each parameter that a model takes beside a structure: fparam, aparam."""
    widths = {"fparam": model.fitting.num_fparam, "aparam": model.fitting.num_aparam}
    return {name: width for name, width in widths.items() if width}


@dataclass(frozen=True)
class Moments:
    """Moments of a set of numbers: from these come every mean and spread.

    Attributes:
        count: How many numbers.
        total: Their sum.
        squares: The sum of their squares.
    """

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: FloatArray, *, empty: int = 0) -> "Moments":
        """Return the moments of an array, joined by `empty` zeros that need not be stored."""
        count = float(values.size + empty)
        return cls(count, float(values.sum()), float(np.square(values).sum()))

    @classmethod
    def from_array(cls, stored: FloatArray) -> "Moments":
        """Return moments from `[count, sum, sum of squares]`, their form in a stat_file."""
        return cls(*(float(value) for value in stored))

    def to_array(self) -> FloatArray:
        """Return `[count, sum, sum of squares]`."""
        return np.array([self.count, self.total, self.squares])

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def scaled(self, weight: float) -> "Moments":
        """Return the moments of numbers that count `weight` times each."""
        return Moments(self.count * weight, self.total * weight, self.squares * weight)

    def mean(self) -> float:
        """Return the mean; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def spread(self, smallest: float = SMALLEST_SPREAD) -> float:
        """Return the standard deviation, at least `smallest`; 0.1 of nothing."""
        if not self.count:
            return UNSEEN_SPREAD
        variance = self.squares / self.count - self.mean() ** 2
        return max(float(np.sqrt(max(variance, 0.0))), smallest)


BlockMoments = dict[str, Moments]
"""Moments by deepmd-kit's names: `r_<type>` (first column) and `a_<type>` (the other three)."""
ParameterMoments = dict[str, list[Moments]]
"""Moments of every component of `fparam` and `aparam`."""


@dataclass(frozen=True)
class InputMoments:
    """What one branch's data say about the inputs of its networks.

    Attributes:
        environment: Of the environment matrix, by descriptor block.
        parameters: Of fparam and aparam, where the fitting net takes them.
    """

    environment: dict[str, BlockMoments]
    parameters: ParameterMoments


def environment_moments(
    batches: Sequence[Frames], blocks: Mapping[str, EnvironmentStatistics], model: EnergyModel
) -> tuple[dict[str, BlockMoments], dict[str, int]]:
    """Sum the unnormalised environment matrices over all atoms and slots, empty slots as zeros.

    Args:
        batches: Frames to look at.
        blocks: The blocks of the model to sum for, by name.
        model: Decides which pairs of types are excluded.

    Returns:
        Moments by block; most neighbours of an atom within each block's cutoff, before `nsel`
        cuts them off.

    Raises:
        FrameError: If a frame has atoms at one place; names it.
    """
    num_types = len(model.type_map)
    keys = [f"{part}_{t}" for t in range(num_types) for part in "ra"]
    sums = {name: {key: Moments() for key in keys} for name in blocks}
    largest = dict.fromkeys(blocks, 0)
    reach = max(block.rcut for block in blocks.values())
    keep = _kept_pairs(model)
    for batch in batches:
        for f in range(batch.num_frames):
            try:
                pairs = _frame_pairs(batch, f, reach)
            except DataError:
                # Once more, so that atoms are called by their numbers in the file.
                with one_frame(batch, f):
                    _frame_pairs(batch.in_file_order(), f, reach)
                raise
            for name, block in blocks.items():
                inside = pairs.center[pairs.distance < block.rcut]
                largest[name] = max(largest[name], int(np.bincount(inside, minlength=1).max()))
                found = _block_moments(pairs, block, model, keep)
                for key, moments in found.items():
                    sums[name][key] = sums[name][key] + moments
    return sums, largest


@dataclass(frozen=True)
class _Pairs:
    """Pairs of one frame, sorted by centre, then by distance."""

    types: IntArray
    center: IntArray
    neighbor: IntArray
    disp: FloatArray
    distance: FloatArray
    rank: IntArray


def _frame_pairs(batch: Frames, f: int, reach: float) -> _Pairs:
    real = batch.atom_types[f] >= 0
    box = None if batch.box is None else batch.box[f]
    center, neighbor, disp, distance = pairs_within(batch.coord[f][real], box, reach)
    order = np.lexsort((distance, center))
    center = center[order]
    first = np.searchsorted(center, center)  # where the run of each centre begins
    return _Pairs(
        types=batch.atom_types[f][real],
        center=center,
        neighbor=neighbor[order],
        disp=disp[order],
        distance=distance[order],
        rank=np.arange(len(center)) - first,
    )


def _block_moments(
    pairs: _Pairs, block: EnvironmentStatistics, model: EnergyModel, keep: NDArray[np.bool_]
) -> BlockMoments:
    # Sorted by distance, the rank in the longest list is the rank in every shorter one.
    chosen = (pairs.distance <= block.rcut) & (pairs.rank < block.nsel)
    center_type = pairs.types[pairs.center]
    chosen &= keep[center_type, pairs.types[pairs.neighbor]]
    protection = model.config.descriptor.env_protection
    env_ER, _, _ = environment_matrix(
        torch.from_numpy(pairs.disp[chosen]), block.rcut_smth, block.rcut, protection
    )
    env, of_type = env_ER.numpy(), center_type[chosen]
    found = {}
    for kind in range(len(keep)):
        rows = env[of_type == kind]
        empty = int((pairs.types == kind).sum()) * block.nsel - len(rows)
        found[f"r_{kind}"] = Moments.of(rows[:, :1], empty=empty)
        found[f"a_{kind}"] = Moments.of(rows[:, 1:], empty=3 * empty)
    return found


def _kept_pairs(model: EnergyModel) -> NDArray[np.bool_]:
    """Return (T, T), False for pairs of types that the model or the descriptor excludes."""
    num_types = len(model.type_map)
    keep = np.ones((num_types, num_types), dtype=np.bool_)
    for a, b in [*model.config.pair_exclude_types, *model.config.descriptor.exclude_types]:
        if 0 <= a < num_types and 0 <= b < num_types:
            keep[a, b] = keep[b, a] = False
    return keep


def set_normalisation(block: EnvironmentStatistics, moments: BlockMoments) -> None:
    """Write mean and spread into the buffers of a block."""
    rows_mean, rows_spread = [], []
    for kind in range(block.mean.shape[0]):
        radial, angular = moments[f"r_{kind}"], moments[f"a_{kind}"]
        mean = 0.0 if block.set_davg_zero else radial.mean()
        rows_mean.append([mean, 0.0, 0.0, 0.0])
        rows_spread.append([radial.spread(), *[angular.spread()] * 3])
    block.set_values(
        torch.tensor(rows_mean, dtype=torch.float64),
        torch.tensor(rows_spread, dtype=torch.float64),
    )


def set_parameter_normalisation(
    model: EnergyModel, name: str, components: Sequence[Moments]
) -> None:
    """Write mean and inverse spread of `fparam` or `aparam` into the buffers of a model."""
    smallest = model.config.data_stat_protect
    mean = torch.tensor([m.mean() for m in components], dtype=torch.float64)
    spread = torch.tensor([m.spread(smallest) for m in components], dtype=torch.float64)
    getattr(model.fitting, f"{name}_avg").copy_(mean)
    getattr(model.fitting, f"{name}_inv_std").copy_(1.0 / spread)


def merge_statistics(
    models: Mapping[str, EnergyModel],
    links: Sequence[Link],
    found: Mapping[str, InputMoments],
    probabilities: Mapping[str, float],
) -> None:
    """Normalise shared parts by the data of all branches that use them.

    Environment matrices count as they are; fparam and aparam by how often a branch is trained, or
    evenly where none of the branches is. (deepmd-kit 3.2.0 divides by the owner's probability and
    dies where that is 0.)

    Args:
        models: The branches, parts shared already.
        links: What is shared, the owner first.
        found: Moments of each branch.
        probabilities: Of training each branch.
    """
    for owner in dict.fromkeys(link.owner for link in links):
        shared = [link for link in links if link.owner == owner]
        descriptors = [n.branch for n in shared if n.component == "descriptor" and n.level == 0]
        if len(descriptors) > 1:
            _merge_environment(models[owner], [found[name] for name in descriptors])
        fittings = [link.branch for link in shared if link.component == "fitting_net"]
        if len(fittings) > 1:
            weights = [probabilities[name] for name in fittings]
            if not any(weights):
                weights = [1.0] * len(fittings)
            _merge_parameters(models[owner], [found[name] for name in fittings], weights)
    for model in models.values():
        model.statistics_changed()


def _merge_environment(owner: EnergyModel, members: Sequence[InputMoments]) -> None:
    for name, block in owner.descriptor.blocks().items():
        keys = members[0].environment[name]
        total = {k: sum((m.environment[name][k] for m in members), Moments()) for k in keys}
        set_normalisation(block, total)


def _merge_parameters(
    owner: EnergyModel, members: Sequence[InputMoments], weights: Sequence[float]
) -> None:
    for name in ("fparam", "aparam"):
        tables = [member.parameters.get(name, []) for member in members]
        if not all(tables):  # not an input of the net, or left to its default
            continue
        totals = [
            sum((m.scaled(weight) for m, weight in zip(column, weights, strict=True)), Moments())
            for column in zip(*tables, strict=True)
        ]
        set_parameter_normalisation(owner, name, totals)
