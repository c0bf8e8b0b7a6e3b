"""Positions to neighbour lists; the only user of the search library.

docs/deepmd-format.md, 3.1, 3.2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.data.cells import LEAST_VOLUME
from dpa2.model.slot_order import Pairs, descriptor_order, energy_order
from schemas.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# Positions (N, 3), cell (3, 3) or None and radius to all ordered pairs, as `pairs_within`.
PairFinder = Callable[[Floats, Floats | None, float], Pairs]


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Radii (Å) and capacities of the lists: repinit's is searched, the others are cut from it.

    Attributes:
        rcut: Radius of the repinit list.
        nsel: Its capacity; the nearest are kept.
        three_body: (radius, capacity) or None without a three-body part.
        repformer: (radius, capacity).
        keep: (T, T) bool, False where the model removes a pair of types; None: none is removed.
        keep_slots: A removed pair leaves its slot empty, as in deepmd-kit; otherwise later pairs
            move up, which changes nothing unless slots have statistics of their own.
    """

    rcut: float
    nsel: int
    three_body: tuple[float, int] | None
    repformer: tuple[float, int]
    keep: NDArray[np.bool_] | None = None
    keep_slots: bool = False

    def capacity(self, rcut: float, nsel: int) -> int:
        """Return the neighbours that survive the cutting of shorter lists from longer ones."""
        lists = [(self.rcut, self.nsel), self.repformer]
        if self.three_body is not None:
            lists.append(self.three_body)
        return min([nsel, *(n for r, n in lists if r > rcut)])


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
    # Rounded as deepmd-kit rounds them, image first, then difference: see `slot_order`.
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
        descriptor_images: Order equal distances as deepmd-kit's descriptors do (`slot_order`).
        find_pairs: What searches; a `dpa2.model.skin.SkinSearch` searches less often.

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
    starts = np.cumsum(np.bincount(group, minlength=num_groups)) - np.bincount(
        group, minlength=num_groups
    )
    return np.arange(len(group), dtype=np.int64) - starts[group]
