"""Neighbour lists against the definition: every image in every cell that could be within reach."""

import itertools

import numpy as np
import pytest

from dpa2.model.neighbors import Cutoffs, pairs_within, search
from schemas.base.errors import DataError

CELLS = {
    "no cell": None,
    "cubic": np.eye(3) * 7.0,
    "smaller than the cutoff": np.eye(3) * 2.3,
    "triclinic": np.array([[6.0, 0.0, 0.0], [2.5, 5.0, 0.0], [-2.0, 1.7, 4.5]]),
    "strongly tilted and thin": np.array([[3.0, 0.0, 0.0], [8.0, 2.5, 0.0], [1.0, 6.0, 3.0]]),
    "left-handed": np.array([[0.0, 4.0, 0.3], [5.0, 0.2, 0.0], [0.0, 0.4, 6.0]]),
    "general rows": np.array([[3.1, 1.2, -0.7], [-0.4, 4.2, 1.1], [0.9, -1.3, 3.9]]),
}


def brute_force(coord, box, rcut):
    """Return rows (i, j, displacement), sorted, by looking at all images in a generous range."""
    if box is None:
        images = np.zeros((1, 3))
    else:
        # A sphere of this radius around any atom, seen in fractional coordinates.
        spread = np.ptp(coord @ np.linalg.inv(box), axis=0) if len(coord) else np.zeros(3)
        heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
        reach = np.ceil(rcut / heights + spread).astype(int) + 1
        images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach)))) @ box
    disp = coord[None, :, None] + images - coord[:, None, None]
    distance = np.linalg.norm(disp, axis=-1)
    hits = np.argwhere((distance <= rcut) & (distance > 1e-12))
    return in_order(hits[:, 0], hits[:, 1], disp[tuple(hits.T)])


def found(coord, box, rcut):
    i, j, disp, distance = pairs_within(coord, box, rcut)
    np.testing.assert_allclose(np.linalg.norm(disp, axis=-1), distance, rtol=1e-15)
    return in_order(i, j, disp)


def in_order(i, j, disp):
    rows = np.column_stack([i, j, np.round(disp, 9)])
    return rows[np.lexsort(rows.T[::-1])]


def scattered(rng, box, num_atoms, *, outside=False):
    fractions = rng.uniform(-2 if outside else 0, 3 if outside else 1, size=(num_atoms, 3))
    return fractions @ (np.eye(3) * 6.0 if box is None else box)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rcut", [2.0, 4.5])
@pytest.mark.parametrize("cell", CELLS)
def test_pairs_are_those_of_brute_force(cell, rcut, seed):
    rng = np.random.default_rng(seed)
    box = CELLS[cell]
    inside = scattered(rng, box, num_atoms=int(rng.integers(2, 9)))
    # Atoms outside the cell are used as given.
    for coord in (inside, scattered(rng, box, 6, outside=True)):
        expected = brute_force(coord, box, rcut)
        np.testing.assert_allclose(found(coord, box, rcut), expected, atol=2e-9)
    assert len(brute_force(inside, box, rcut)) or rcut < 4


@pytest.mark.parametrize("cell", [name for name in CELLS if name != "no cell"])
def test_one_atom_sees_only_its_own_images(cell):
    box = CELLS[cell]
    coord = np.array([[0.2, 0.4, 0.1]])
    pairs = found(coord, box, 7.4)
    np.testing.assert_allclose(pairs, brute_force(coord, box, 7.4), atol=2e-9)
    assert len(pairs)
    vectors = pairs[:, 2:] @ np.linalg.inv(box)
    np.testing.assert_allclose(vectors, np.round(vectors), atol=1e-8)


def test_two_images_of_one_atom_at_the_same_distance_are_both_found():
    coord = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    i, j, disp, distance = pairs_within(coord, np.diag([4.0, 9.0, 9.0]), 3.0)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (0, 1), (1, 0), (1, 0)]
    assert distance.tolist() == [2.0] * 4
    assert sorted(disp[i == 0][:, 0].tolist()) == [-2.0, 2.0]


@pytest.mark.parametrize("num_atoms", [0, 1])
def test_without_a_cell_fewer_than_two_atoms_have_no_pairs(num_atoms):
    i, j, disp, distance = pairs_within(np.zeros((num_atoms, 3)), None, 6.0)
    assert (len(i), len(j), disp.shape, distance.shape) == (0, 0, (0, 3), (0,))


NOWHERE = [[0.0] * 3] * 3 + [[0.0, np.nan, 0.0]]


@pytest.mark.parametrize(
    ("coord", "box", "problem"),
    [
        (NOWHERE, None, "atom 3"),
        (np.where(np.isnan(NOWHERE), np.inf, NOWHERE), None, "atom 3"),
        (np.zeros((2, 3)), np.zeros((3, 3)), "no volume"),
        (np.zeros((2, 3)), np.ones((3, 3)), "no volume"),
        (np.zeros((2, 3)), np.diag([4.0, 4.0, np.nan]), "no volume"),
        (np.zeros((2, 3)), None, "atoms 0 and 1 are at the same place"),
    ],
)
def test_positions_and_cells_that_are_none_are_refused(coord, box, problem):
    with pytest.raises(DataError, match=problem):
        pairs_within(np.array(coord), box, 4.0)


KEEP = np.array([[True, False], [False, True]])
LISTS = {
    "ample": Cutoffs(5.0, 200, (3.0, 100), (4.0, 150)),
    "all full": Cutoffs(5.0, 30, (3.0, 4), (4.0, 12)),
    "repinit fuller than the shorter lists": Cutoffs(5.0, 9, (3.0, 40), (4.0, 30)),
    "three-body wider than repformer": Cutoffs(5.0, 60, (4.5, 30), (4.0, 7)),
    "a wider list holds fewer": Cutoffs(5.0, 60, (4.5, 6), (4.0, 30)),
    "equal radii": Cutoffs(4.0, 20, (4.0, 8), (4.0, 12)),
    "no three-body": Cutoffs(5.0, 14, None, (3.5, 8)),
    "excluded pairs": Cutoffs(5.0, 20, (3.0, 3), (4.0, 10), KEEP),
    "excluded pairs leave holes": Cutoffs(5.0, 20, (3.0, 3), (4.0, 10), KEEP, keep_slots=True),
}


def naive_lists(near, center_type, cutoffs):
    """Return {name: [(neighbour, distance) or None, ...]} of one centre, as deepmd-kit cuts lists.

    The nearest `nsel` come first, then excluded pairs are erased in place; each shorter list is the
    start of the next longer one, without what lies beyond its radius.
    """
    current = [
        (j, r) if cutoffs.keep is None or cutoffs.keep[center_type, neighbor_type] else None
        for r, j, neighbor_type in sorted(near)
    ]
    named = {"num_repinit": (cutoffs.rcut, cutoffs.nsel), "num_repformer": cutoffs.repformer}
    if cutoffs.three_body is not None:
        named["num_three_body"] = cutoffs.three_body
    lists = {}
    for name, (rcut, nsel) in sorted(named.items(), key=lambda item: item[1], reverse=True):
        current = [entry if entry and entry[1] <= rcut else None for entry in current][:nsel]
        lists[name] = current
    return lists


def without_holes(entries):
    return [entry for entry in entries if entry is not None]


def without_tail(entries):
    length = max((k + 1 for k, entry in enumerate(entries) if entry is not None), default=0)
    return entries[:length]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cutoffs", LISTS.values(), ids=LISTS)
def test_lists_are_those_of_a_naive_construction(cutoffs, seed):
    rng = np.random.default_rng(seed)
    box = np.diag([5.0, 4.6, 5.3]) + rng.uniform(-0.6, 0.6, size=(3, 3))
    coord, types = scattered(rng, box, 10), rng.integers(0, 2, size=10)
    i, j, _, distance = pairs_within(coord, box, cutoffs.rcut)
    lists = search(coord, box, types, cutoffs)
    assert lists.num_repformer.any()
    assert cutoffs.three_body is not None or not lists.num_three_body.any()
    length = np.linalg.norm(lists.disp, axis=1)
    for atom in range(len(coord)):
        near = [(distance[e], j[e], types[j[e]]) for e in np.flatnonzero(i == atom)]
        naive = naive_lists(near, types[atom], cutoffs)
        mine = {
            lists.slot[e]: (lists.neighbor[e], length[e])
            for e in np.flatnonzero(lists.center == atom)
        }
        assert lists.num_repinit[atom] == len(mine) == len(without_holes(naive["num_repinit"]))
        for name, entries in naive.items():
            expected = without_tail(entries) if cutoffs.keep_slots else without_holes(entries)
            stop = (
                max(mine, default=-1) + 1 if name == "num_repinit" else getattr(lists, name)[atom]
            )
            prefix = [mine.get(slot) for slot in range(stop)]
            assert [e and e[0] for e in prefix] == [e and e[0] for e in expected], name
            assert without_holes(prefix) == [pytest.approx(e) for e in without_holes(expected)]


@pytest.mark.parametrize("cutoffs", LISTS.values(), ids=LISTS)
def test_pairs_that_a_full_list_drops_are_counted(cutoffs):
    rng = np.random.default_rng(5)
    box = np.diag([5.0, 4.6, 5.3])
    coord, types = scattered(rng, box, 10), rng.integers(0, 2, size=10)
    found = np.bincount(pairs_within(coord, box, cutoffs.rcut)[0], minlength=10)
    dropped = search(coord, box, types, cutoffs).num_dropped
    assert dropped == np.maximum(found - cutoffs.nsel, 0).sum()
    assert (dropped > 0) == (cutoffs.nsel < 60)


@pytest.mark.parametrize("keep_slots", [False, True])
def test_an_excluded_pair_is_excluded_in_both_directions(keep_slots):
    rng = np.random.default_rng(1)
    cutoffs = Cutoffs(5.0, 30, (3.0, 10), (4.0, 20), KEEP, keep_slots)
    types = rng.integers(0, 2, size=10)
    lists = search(scattered(rng, None, 10), None, types, cutoffs)
    assert len(lists.center)
    np.testing.assert_array_equal(types[lists.center], types[lists.neighbor])
