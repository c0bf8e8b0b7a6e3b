"""Neighbour lists of positions; the only user of the search library.

docs/deepmd-format.md, 3.1, 3.2.

In cells smaller than the cutoff an atom sees images of one atom at exactly one distance. Their
order is arbitrary, and matters only where neighbour slots have statistics of their own.
deepmd-kit's order is that of torch's unstable sorts of particular arrays, one for its energies and
another for its descriptors; the same sorts of the same arrays give the same orders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.data.cells import LEAST_VOLUME
from dpa2.model.cutoffs import Cutoffs
from schemas.base.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# centre, neighbour, displacement (E, 3) Å, distance Å
Pairs = tuple[Integers, Integers, Floats, Floats]


def energy_order(pairs: Pairs, num_atoms: int) -> Pairs:
    """Sort pairs by centre and distance as deepmd-kit does where it evaluates energies."""
    center, _, _, distance = pairs
    counts = np.bincount(center, minlength=num_atoms)
    grouped = np.argsort(center, kind="stable")
    starts = np.cumsum(counts) - counts
    table = torch.full((num_atoms, int(counts.max(initial=0))), -1, dtype=torch.int64)
    rows = center[grouped]
    table[rows, np.arange(len(grouped)) - starts[rows]] = torch.from_numpy(grouped)
    length = torch.from_numpy(distance)[table.clamp_min(0)].masked_fill(table < 0, torch.inf)
    table = table.gather(1, torch.argsort(length, dim=-1))
    order = table[table >= 0].numpy()
    i, j, disp, d = (array[order] for array in pairs)
    return i, j, disp, d


def images_per_side(boxes: Floats, rcut: float) -> Integers:
    """Return how many images each direction needs, the most of all cells (F, 3, 3)."""
    volumes = np.abs(np.linalg.det(boxes))
    areas = np.linalg.norm(
        np.stack([np.cross(boxes[:, (a + 1) % 3], boxes[:, (a + 2) % 3]) for a in range(3)], 1),
        axis=-1,
    )
    heights = volumes[:, None] / areas
    return np.asarray(np.ceil(rcut / heights).max(axis=0).astype(np.int64))


def descriptor_order(coord: Floats, box: Floats, rcut: float, nsel: int, images: Integers) -> Pairs:
    """Return the pairs within `rcut`, ordered as where deepmd-kit evaluates descriptors.

    Args:
        coord: (N, 3) Å.
        box: (3, 3) Å.
        rcut: Å.
        nsel: Neighbours beyond it are left out.
        images: Of the batch, from `images_per_side`.
    """
    cell = torch.tensor(box)
    scaled = torch.matmul(torch.tensor(coord), torch.linalg.inv(cell))
    wrapped = torch.matmul(torch.remainder(scaled, 1.0), cell)
    ranges = [torch.arange(-int(n), int(n) + 1, dtype=torch.float64) for n in images]
    shifts = torch.cartesian_prod(*ranges)
    shifts = shifts[torch.argsort(torch.linalg.norm(shifts, dim=-1))]
    everywhere = wrapped[None] + torch.einsum("sd,dk->sk", shifts, cell)[:, None]
    diff = everywhere.reshape(1, -1, 3) - wrapped[:, None]  # (N, images * N, 3)
    length = torch.linalg.norm(diff, dim=-1)
    num_atoms = len(coord)
    diagonal = torch.arange(num_atoms)
    length[diagonal, diagonal] -= 1.0
    length, found = torch.topk(length, min(nsel + 1, length.shape[1]), largest=False)
    length, found = length[:, 1:], found[:, 1:]
    inside = length <= rcut
    i = diagonal.unsqueeze(1).expand_as(found)[inside]
    return (
        i.numpy(),
        (found[inside] % num_atoms).numpy(),
        diff[i, found[inside]].numpy(),
        length[inside].numpy(),
    )


# Positions (N, 3), cell (3, 3) or None and radius to all ordered pairs, as `pairs_within`.
PairFinder = Callable[[Floats, Floats | None, float], Pairs]


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The pairs of one frame, sorted by centre, then by distance.

    Attributes:
        center: (E,) index of the centre.
        neighbor: (E,) index of the neighbour.
        slot: (E,) place in the centre's list.
        disp: (E, 3) Å, neighbour (its right image) minus centre.
        num_repinit: (N,) neighbours of each centre.
        num_three_body: (N,) length of the prefix that is the three-body list.
        num_repformer: (N,) length of the prefix that is the repformer list.
        num_dropped: Pairs within the cutoff beyond `nsel`.
    """

    center: Integers
    neighbor: Integers
    slot: Integers
    disp: Floats
    num_repinit: Integers
    num_three_body: Integers
    num_repformer: Integers
    num_dropped: int


def pairs_within(coord: Floats, box: Floats | None, rcut: float) -> Pairs:
    """Return all ordered pairs (i, j, displacement (E, 3), distance (E,)) within `rcut`.

    Any cell works: smaller than the cutoff, triclinic, left-handed.

    Raises:
        DataError: If a coordinate is not finite, the cell has no volume, or atoms coincide.
    """
    i, j, shift = images_within(coord, box, rcut)
    return placed_pairs(coord, box, i, j, shift)


def images_within(
    coord: Floats, box: Floats | None, rcut: float
) -> tuple[Integers, Integers, Integers]:
    """Return all ordered pairs (i, j, cell of j's image (E, 3)) within `rcut`.

    Raises:
        DataError: If a coordinate is not finite or the cell has no volume.
    """
    if not np.isfinite(coord).all():
        atom = int(np.argwhere(~np.isfinite(coord))[0, 0])
        raise DataError(f"the position of atom {atom} is not a finite number")
    if box is not None and not (np.isfinite(box).all() and abs(np.linalg.det(box)) > LEAST_VOLUME):
        raise DataError(
            "the cell has no volume", hint="give three independent lattice vectors, or no cell"
        )
    if len(coord) == 0 or (box is None and len(coord) == 1):
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, np.zeros((0, 3), dtype=np.int64)
    import vesin

    finder: Any = vesin.NeighborList(cutoff=rcut, full_list=True)
    i, j, shift = finder.compute(
        points=coord,
        box=np.zeros((3, 3)) if box is None else box,
        periodic=box is not None,
        quantities="ijS",
    )
    return i.astype(np.int64), j.astype(np.int64), shift.astype(np.int64)


def placed_pairs(
    coord: Floats, box: Floats | None, i: Integers, j: Integers, shift: Integers
) -> Pairs:
    """Return pairs with the displacements and distances that they have at these positions.

    Raises:
        DataError: If two atoms are at the same place.
    """
    # Rounded as deepmd-kit rounds them, image first, then difference: see the head of this module.
    image = coord[j]
    if box is not None:
        image = image + (shift[:, :, None] * box).sum(axis=1)
    displacement = image - coord[i]
    distance = torch.linalg.vector_norm(torch.from_numpy(displacement), dim=-1).numpy()
    if len(distance) and not distance.min() > 0.0:
        pair = int(distance.argmin())
        raise DataError(
            f"atoms {i[pair]} and {j[pair]} are at the same place",
            hint="remove one of them, or the frame: its energy is not defined",
        )
    return i, j, displacement, distance


def search(
    coord: Floats,
    box: Floats | None,
    types: Integers,
    cutoffs: Cutoffs,
    descriptor_images: Integers | None = None,
    find_pairs: PairFinder = pairs_within,
) -> Neighbors:
    """Return the neighbour lists of one frame of real atoms.

    Args:
        coord: (N, 3) Å.
        box: (3, 3) Å, rows are vectors; None: not periodic.
        types: (N,) type of each atom, >= 0.
        cutoffs: Radii and capacities.
        descriptor_images: Order equal distances as `descriptor_order` does.
        find_pairs: What searches; a `SkinSearch` searches less often.

    Raises:
        DataError: If a coordinate is not finite or the cell has no volume.
    """
    num_atoms = len(coord)
    i, j, disp, distance = find_pairs(coord, box, cutoffs.rcut)
    if cutoffs.keep_slots and box is not None and num_atoms > 0:
        if descriptor_images is None:
            i, j, disp, distance = energy_order((i, j, disp, distance), num_atoms)
        else:
            i, j, disp, distance = descriptor_order(
                coord, box, cutoffs.rcut, cutoffs.nsel, descriptor_images
            )
    else:
        order = np.lexsort((distance, i))
        i, j, disp, distance = i[order], j[order], disp[order], distance[order]
    rank = _rank_in_group(i, num_atoms)
    kept = rank < cutoffs.nsel
    num_dropped = int(len(kept) - np.count_nonzero(kept))
    if cutoffs.keep is not None:
        kept &= cutoffs.keep[types[i], types[j]]
    i, j, disp, distance, rank = i[kept], j[kept], disp[kept], distance[kept], rank[kept]
    slot = rank if cutoffs.keep_slots else _rank_in_group(i, num_atoms)

    def prefix(rcut: float, nsel: int) -> Integers:
        inside = (distance <= rcut) & (rank < cutoffs.capacity(rcut, nsel))
        length = np.zeros(num_atoms, dtype=np.int64)
        np.maximum.at(length, i[inside], slot[inside] + 1)
        return length

    three_body = cutoffs.three_body
    return Neighbors(
        center=i,
        neighbor=j,
        slot=slot,
        disp=disp,
        num_repinit=np.bincount(i, minlength=num_atoms).astype(np.int64),
        num_three_body=prefix(*three_body) if three_body else np.zeros(num_atoms, np.int64),
        num_repformer=prefix(*cutoffs.repformer),
        num_dropped=num_dropped,
    )


def _rank_in_group(group: Integers, num_groups: int) -> Integers:
    """Return the position of each entry within its run; `group` is sorted."""
    counts = np.bincount(group, minlength=num_groups)
    starts = np.cumsum(counts) - counts
    return np.arange(len(group), dtype=np.int64) - starts[group]


class SkinSearch:
    """Finds pairs as `dpa2.model.neighbors.pairs_within` does, from a list with a margin.

    The pairs within radius + skin are kept until an atom has moved by more than half of the skin,
    or the cell, the radius or the number of atoms has changed. Until then no pair can have come
    within the radius that is not listed; what is listed but beyond the radius is dropped at every
    call. So the result is that of a new search.

    Args:
        skin: Margin, Å; 0 searches at every call.

    Attributes:
        num_searches: How often the pairs were searched.
    """

    def __init__(self, skin: float) -> None:
        self.skin = skin
        self.num_searches = 0
        self._coord: Floats | None = None
        self._box: Floats | None = None
        self._rcut = 0.0
        self._images = images_within(np.zeros((0, 3)), None, 0.0)

    def __call__(self, coord: Floats, box: Floats | None, rcut: float) -> Pairs:
        """Return all ordered pairs (i, j, displacement (E, 3), distance (E,)) within `rcut`.

        Args:
            coord: (N, 3) Å.
            box: (3, 3) Å, rows are vectors; None: not periodic.
            rcut: Å.

        Raises:
            DataError: If a coordinate is not finite, the cell has no volume, or atoms coincide.
        """
        if self._is_stale(coord, box, rcut):
            # Nothing is kept of a search that fails.
            self._coord = None
            self._images = images_within(coord, box, rcut + self.skin)
            self._coord, self._rcut = coord.copy(), rcut
            self._box = None if box is None else box.copy()
            self.num_searches += 1
        i, j, displacement, distance = placed_pairs(coord, box, *self._images)
        near = distance <= rcut
        return i[near], j[near], displacement[near], distance[near]

    def _is_stale(self, coord: Floats, box: Floats | None, rcut: float) -> bool:
        if self._coord is None or self._coord.shape != coord.shape or self._rcut != rcut:
            return True
        if (self._box is None) != (box is None):
            return True
        if self._box is not None and box is not None and not np.array_equal(self._box, box):
            return True
        moved = np.linalg.norm(coord - self._coord, axis=-1).max(initial=0.0)
        # Written so that a position that is no number is stale, too, and then refused.
        return not 2.0 * moved <= self.skin
