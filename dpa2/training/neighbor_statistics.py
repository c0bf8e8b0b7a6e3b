"""How many neighbours atoms have, how close: `nsel: "auto"`, `min_nbor_dist`.

docs/deepmd-format.md, 1.3.4.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dpa2.data.bad_frames import one_frame
from dpa2.data.checks import check_labels
from dpa2.data.distances import far_enough
from dpa2.data.frames import Frames
from dpa2.data.preflight.capacity import enlarged
from dpa2.data.sampler import iterate
from dpa2.data.system import System
from dpa2.model.neighbors import pairs_within

_CLOSE = 1.5
"""Å; nearest neighbours are about that far apart. Searching within less takes no less time."""
_FAR = 10.0
"""Å; atoms farther apart than this have no neighbours."""


def most_neighbors(batches: Iterable[Frames], cutoffs: Sequence[float]) -> dict[float, int]:
    """Return the most neighbours of an atom in all frames, by cutoff in Å; padding left out.

    Args:
        batches: The frames.
        cutoffs: Radii, Å.

    Raises:
        FrameError: If a frame has atoms at one place; names it.
    """
    most = dict.fromkeys(cutoffs, 0)
    for batch in batches:
        for f in range(batch.num_frames):
            real = batch.atom_types[f] >= 0
            box = None if batch.box is None else batch.box[f]
            with one_frame(batch, f):
                center, _, _, distance = pairs_within(batch.coord[f][real], box, max(cutoffs))
            if not len(distance):
                continue
            for rcut in cutoffs:
                counts = np.bincount(center[distance < rcut], minlength=1)
                most[rcut] = max(most[rcut], int(counts.max()))
    return most


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
        config: The section (`schemas.model`).
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
