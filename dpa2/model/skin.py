"""A neighbour search that is repeated only when atoms have moved (a Verlet list)."""

import numpy as np

from dpa2.model.neighbors import Floats, images_within, placed_pairs
from dpa2.model.slot_order import Pairs


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
