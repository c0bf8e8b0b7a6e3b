import numpy as np
import pytest

from dpa2.model.neighbors import SkinSearch, pairs_within
from schemas.base.errors import DataError


def sorted_pairs(pairs):
    i, j, displacement, distance = pairs
    order = np.lexsort((*np.round(displacement.T, 9), j, i))
    return i[order], j[order], displacement[order], distance[order]


@pytest.mark.parametrize("periodic", [True, False])
def test_every_step_gives_the_pairs_of_a_new_search(periodic):
    rng = np.random.default_rng(0)
    box = np.diag([5.0, 6.0, 7.0]) + rng.normal(size=(3, 3)) * 0.3 if periodic else None
    coord = rng.uniform(0, 5, size=(30, 3))
    search = SkinSearch(0.4)
    num_steps = 40
    for _ in range(num_steps):
        coord = coord + rng.normal(size=coord.shape) * 0.02
        found = sorted_pairs(search(coord, box, 3.0))
        for ours, new in zip(found, sorted_pairs(pairs_within(coord, box, 3.0)), strict=True):
            np.testing.assert_array_equal(ours, new)
    assert 2 <= search.num_searches <= num_steps // 2


def shifted(coord, length):
    return coord + np.array([[length, 0, 0], [0, 0, 0]])


def moved(coord, box, rcut):
    return shifted(coord, 0.3), box, rcut


@pytest.mark.parametrize(
    "change",
    [
        moved,
        lambda coord, box, rcut: (coord, box * 1.0001, rcut),
        lambda coord, _, rcut: (coord, None, rcut),
        lambda coord, box, rcut: (coord, box, rcut + 0.1),
        lambda coord, box, rcut: (coord[:1], box, rcut),
    ],
)
def test_whatever_matters_makes_a_new_search(change):
    coord, box = np.array([[0.0, 0, 0], [1, 1, 1]]), np.eye(3) * 4
    search = SkinSearch(0.5)
    search(coord, box, 2.0)
    search(shifted(coord, 0.2), box, 2.0)
    assert search.num_searches == 1
    search(*change(coord, box, 2.0))
    assert search.num_searches == 2


def test_a_position_that_is_no_number_is_refused():
    coord, box = np.array([[0.0, 0, 0], [1, 1, 1]]), np.eye(3) * 4
    search = SkinSearch(0.5)
    search(coord, box, 2.0)
    with pytest.raises(DataError, match="not a finite number"):
        search(np.full((2, 3), np.nan), box, 2.0)
    assert len(search(coord, box, 2.0)[0]) == len(pairs_within(coord, box, 2.0)[0])
