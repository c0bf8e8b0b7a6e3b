"""How many neighbours atoms have: `nsel: "auto"` becomes a number (interop-spec 1.3.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpa2.data.bad_frames import one_frame
from dpa2.data.frames import Frames
from dpa2.data.preflight.capacity import enlarged
from dpa2.data.sampler import iterate
from dpa2.data.system import System
from dpa2.model.neighbors import pairs_within


@dataclass(frozen=True)
class NeighborStatistics:
    """Neighbours in a data set.

    Attributes:
        min_distance: Å, between the closest two atoms; infinite where no atom has a neighbour.
        most: Most neighbours of an atom, by cutoff in Å.
    """

    min_distance: float
    most: dict[float, int]


def neighbor_statistics(batches: Iterable[Frames], cutoffs: Sequence[float]) -> NeighborStatistics:
    """Count neighbours in all frames, padding left out.

    Args:
        batches: The frames.
        cutoffs: Radii, Å.

    Raises:
        FrameError: If a frame has atoms at one place; names it.
    """
    shortest = float("inf")
    most = dict.fromkeys(cutoffs, 0)
    for batch in batches:
        for f in range(batch.num_frames):
            real = batch.atom_types[f] >= 0
            box = None if batch.box is None else batch.box[f]
            with one_frame(batch, f):
                center, _, _, distance = pairs_within(batch.coord[f][real], box, max(cutoffs))
            if not len(distance):
                continue
            shortest = min(shortest, float(distance.min()))
            for rcut in cutoffs:
                counts = np.bincount(center[distance < rcut], minlength=1)
                most[rcut] = max(most[rcut], int(counts.max()))
    return NeighborStatistics(shortest, most)


def resolve_auto_nsel(config: Any, systems: Sequence[System]) -> tuple[Any, float | None]:
    """Replace `auto` capacities of a checked `model` section by numbers.

    Args:
        config: The section (`schemas.model`).
        systems: All training systems; read once if there is anything to resolve.

    Returns:
        The section, and the smallest distance in the data (Å) or None if they were not read.
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
        return config, None
    found = neighbor_statistics(
        iterate(systems, "auto:256", need=()), sorted({rcut for _, rcut in automatic.values()})
    )
    changes: dict[str, dict[str, int]] = {"repinit": {}, "repformer": {}}
    for (section, key), (rule, rcut) in automatic.items():
        changes[section][key] = enlarged(found.most[rcut], rule)
    new_descriptor = descriptor.model_copy(
        update={
            section: getattr(descriptor, section).model_copy(update=values)
            for section, values in changes.items()
            if values
        }
    )
    return config.model_copy(update={"descriptor": new_descriptor}), found.min_distance
