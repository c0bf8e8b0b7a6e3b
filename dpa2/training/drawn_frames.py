"""Frames drawn for statistics, and their neighbours: capacities and the shortest distance."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dpa2.data.cells import check_labels, far_enough
from dpa2.data.frames import Frames, IntArray, one_frame
from dpa2.data.preflight.capacity import enlarged
from dpa2.data.preflight.neighbors import census
from dpa2.data.sampler import Sampler, iterate
from dpa2.data.system import System
from dpa2.model.neighbors import pairs_within
from schemas.base.errors import DataError

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


_CLOSE = 1.5
"""Å; nearest neighbours are about that far apart. Searching within less takes no less time."""
_FAR = 10.0
"""Å; atoms farther apart than this have no neighbours."""


def most_neighbors(batches: Iterable[Frames], cutoffs: Sequence[float]) -> dict[float, int]:
    """Return the most neighbours of an atom in all frames, by cutoff in Å; padding left out.

    They are counted as `zoo validate` counts them.

    Raises:
        FrameError: When a coordinate is not finite; names system and frame.
    """
    most = np.zeros(len(cutoffs), dtype=np.int64)
    for batch in batches:
        check_labels(batch, ())
        counts = census(batch.coord, batch.box, batch.atom_types, cutoffs).counts
        most = np.maximum(most, counts.max(axis=(1, 2), initial=0))
    return dict(zip(cutoffs, most.tolist(), strict=True))


def shortest_distance(systems: Sequence[System], min_pair_dist: float = 0.0) -> float | None:
    """Return the distance of the closest two atoms of all frames, Å; None where all are alone.

    Every frame is searched, but only for pairs closer than the closest so far.

    Args:
        systems: Where the frames are.
        min_pair_dist: Frames with a shorter distance are not trained on and do not count, Å.

    Raises:
        FrameError: When atoms coincide or a coordinate is not finite; names system and frame.
    """
    shortest = _FAR
    for batch in iterate(systems, "auto:4096", need=()):
        check_labels(batch, ())
        frames = batch.select(far_enough(batch, min_pair_dist)) if min_pair_dist > 0 else batch
        for f in range(frames.num_frames):
            shortest = min(shortest, _closest(frames, f, shortest))
    return shortest if shortest < _FAR else None


def _closest(frames: Frames, f: int, known: float) -> float:
    """Return the shortest distance in a frame, or anything longer than what is known."""
    coord = frames.coord[f][frames.atom_types[f] >= 0]
    box = None if frames.box is None else frames.box[f]
    for reach in (_CLOSE, known) if known > _CLOSE else (_CLOSE,):
        with one_frame(frames, f):
            distance = pairs_within(coord, box, reach)[3]
        if len(distance):
            return float(distance.min())
    return _FAR


def resolve_auto_nsel(config: Any, systems: Sequence[System]) -> Any:
    """Replace `auto` capacities of a checked `model` section by numbers.

    Args:
        config: The section (`schemas.input.model`).
        systems: All training systems; read once if there is anything to resolve.

    Returns:
        The section.
    """
    descriptor = config.descriptor
    repinit, repformer = descriptor.repinit, descriptor.repformer
    wanted = {
        ("repinit", "nsel"): (repinit.nsel, repinit.rcut),
        ("repinit", "three_body_sel"): (repinit.three_body_sel, repinit.three_body_rcut),
        ("repformer", "nsel"): (repformer.nsel, repformer.rcut),
    }
    automatic = {key: value for key, value in wanted.items() if isinstance(value[0], str)}
    if not automatic:
        return config
    most = most_neighbors(
        iterate(systems, "auto:256", need=()), sorted({rcut for _, rcut in automatic.values()})
    )
    changes: dict[str, dict[str, int]] = {"repinit": {}, "repformer": {}}
    for (section, key), (rule, rcut) in automatic.items():
        changes[section][key] = enlarged(most[rcut], rule)
    new_descriptor = descriptor.model_copy(
        update={
            section: getattr(descriptor, section).model_copy(update=values)
            for section, values in changes.items()
            if values
        }
    )
    return config.model_copy(update={"descriptor": new_descriptor})
