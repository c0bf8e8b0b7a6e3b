"""One structure as atoms and ghosts, the form in which a frozen model takes a neighbour list."""

# Axes:  N atoms   M atoms and ghosts   E pairs   W longest list

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpa2.model.slot_order import Pairs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WithGhosts:
    """A structure with the images that its pairs reach.

    Attributes:
        coord: (M, 3) Å; the N atoms come first.
        mapping: (M,) the atom of which each is an image.
        nlist: (N, W) neighbours among the M; -1 in empty slots.
    """

    coord: Floats
    mapping: Integers
    nlist: Integers


def with_ghosts(coord: Floats, box: Floats | None, pairs: Pairs) -> WithGhosts:
    """Return a structure with one ghost for every image that is some atom's neighbour.

    Args:
        coord: (N, 3) Å.
        box: (3, 3) Å, rows are vectors; None: not periodic.
        pairs: (i, j, displacement (E, 3), distance (E,)), all ordered pairs.
    """
    i, j, displacement, distance = pairs
    num_atoms = len(coord)
    order = np.lexsort((distance, i))
    i, j, displacement = i[order], j[order], displacement[order]
    neighbor, mapping, everywhere = j, np.arange(num_atoms), coord
    if box is not None:
        between = displacement - (coord[j] - coord[i])
        shift = np.rint(between @ np.linalg.inv(box)).astype(np.int64)
        outside = shift.any(axis=1)
        images, found = np.unique(np.column_stack((j, shift))[outside], axis=0, return_inverse=True)
        neighbor = j.copy()
        neighbor[outside] = num_atoms + found.reshape(-1)
        ghosts = coord[images[:, 0]] + (images[:, 1:, None] * box).sum(axis=1)
        everywhere = np.concatenate((coord, ghosts))
        mapping = np.concatenate((mapping, images[:, 0]))
    counts = np.bincount(i, minlength=num_atoms)
    nlist = np.full((num_atoms, max(1, int(counts.max(initial=0)))), -1, dtype=np.int64)
    nlist[i, np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)] = neighbor
    return WithGhosts(everywhere, mapping.astype(np.int64), nlist)


def folded(values: Floats, mapping: Integers, num_atoms: int) -> Floats:
    """Return what belongs to atoms and ghosts summed up over the images of each atom.

    Args:
        values: (M, C) forces or virials.
        mapping: (M,) the atom of which each is an image.
        num_atoms: N.

    Returns:
        (N, C).
    """
    columns = [np.bincount(mapping, weights=column, minlength=num_atoms) for column in values.T]
    return np.stack(columns, axis=-1)
