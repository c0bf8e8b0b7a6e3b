"""Mean and spread of the environment matrix over the data, for each descriptor block.

docs/deepmd-format.md, 5.2.
"""

# Axes:  E pairs of atoms   R = the four columns (s, s x/r, s y/r, s z/r) of the environment matrix

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.data.bad_frames import one_frame
from dpa2.data.frames import Frames
from dpa2.model.environment import environment_matrix
from dpa2.model.neighbors import pairs_within
from dpa2.model.statistics import EnvironmentStatistics
from dpa2.training.moments import Moments
from schemas.errors import DataError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BlockMoments = dict[str, Moments]
"""Moments by deepmd-kit's names: `r_<type>` (first column) and `a_<type>` (the other three)."""


@dataclass(frozen=True)
class EnvironmentMoments:
    """What one pass over the frames finds.

    Attributes:
        blocks: Moments of each descriptor block.
        largest: Most neighbours of an atom within each block's cutoff, before `nsel` cuts them off.
    """

    blocks: dict[str, BlockMoments]
    largest: dict[str, int]


def environment_moments(
    batches: Sequence[Frames],
    blocks: Mapping[str, EnvironmentStatistics],
    num_types: int,
    *,
    protection: float,
    keep: NDArray[np.bool_],
) -> EnvironmentMoments:
    """Sum the unnormalised environment matrices over all atoms and slots, empty slots as zeros.

    Args:
        batches: Frames to look at.
        blocks: Cutoffs and capacities, by name of the block.
        num_types: T, length of the type map.
        protection: `env_protection`, Å.
        keep: (T, T) False for pairs of types that the model or the descriptor excludes.

    Raises:
        FrameError: If a frame has atoms at one place; names it.
    """
    sums = {
        name: {f"{part}_{t}": Moments() for t in range(num_types) for part in "ra"}
        for name in blocks
    }
    largest = dict.fromkeys(blocks, 0)
    reach = max(block.rcut for block in blocks.values())
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
                largest[name] = max(largest[name], pairs.most_within(block.rcut))
                found = _block_moments(pairs, block, num_types, protection, keep)
                for key, moments in found.items():
                    sums[name][key] = sums[name][key] + moments
    return EnvironmentMoments(sums, largest)


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


@dataclass(frozen=True)
class _Pairs:
    """Pairs of one frame, sorted by centre, then by distance."""

    types: IntArray
    center: IntArray
    neighbor: IntArray
    disp: FloatArray
    distance: FloatArray
    rank: IntArray

    def most_within(self, rcut: float) -> int:
        """Return the largest number of neighbours closer than `rcut`."""
        inside = self.center[self.distance < rcut]
        return int(np.bincount(inside, minlength=1).max())


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
    pairs: _Pairs,
    block: EnvironmentStatistics,
    num_types: int,
    protection: float,
    keep: NDArray[np.bool_],
) -> BlockMoments:
    # Sorted by distance, the rank in the longest list is the rank in every shorter one.
    chosen = (pairs.distance <= block.rcut) & (pairs.rank < block.nsel)
    center_type = pairs.types[pairs.center]
    chosen &= keep[center_type, pairs.types[pairs.neighbor]]
    env_ER, _, _ = environment_matrix(
        torch.from_numpy(pairs.disp[chosen]), block.rcut_smth, block.rcut, protection
    )
    env, of_type = env_ER.numpy(), center_type[chosen]
    found = {}
    for kind in range(num_types):
        rows = env[of_type == kind]
        empty = int((pairs.types == kind).sum()) * block.nsel - len(rows)
        found[f"r_{kind}"] = Moments.of(rows[:, :1], empty=empty)
        found[f"a_{kind}"] = Moments.of(rows[:, 1:], empty=3 * empty)
    return found
