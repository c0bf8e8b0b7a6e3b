"""Cells of structures in data sets, and atoms that are too close in them."""

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from dpa2.data.cells import far_enough
from dpa2.data.frames import Frames
from dpa2.data.structures.structure import Reading, Structure
from dpa2.data.structures.systems import in_a_box

RCUT = 5.0


def energy(coord, box, pbc):
    atoms = Atoms(f"Ar{len(coord)}", coord, cell=box, pbc=pbc)
    atoms.calc = LennardJones(sigma=1.0, rc=RCUT)
    return atoms.get_potential_energy()


@pytest.mark.parametrize("seed", range(20))
def test_the_energy_stays_that_of_the_structure(seed):
    rng = np.random.default_rng(seed)
    pbc = rng.integers(0, 2, 3).astype(bool)
    box = np.eye(3) * rng.uniform(3, 6) + rng.normal(size=(3, 3)) * 0.8
    box = box[rng.permutation(3)]
    coord = rng.uniform(0, 4, (5, 3))
    structure = Structure("x", ("Ar",) * 5, coord, box if pbc.any() else None, pbc=tuple(pbc))
    boxed = in_a_box(structure, RCUT + 0.1, Reading("x"))
    np.testing.assert_array_equal(boxed.coord, coord)
    assert boxed.box is None or np.linalg.det(boxed.box) > 0
    expected = energy(coord, box, pbc)
    found = energy(coord, boxed.box, boxed.box is not None)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def closest(coord, box):
    """Return the smallest distance of two atoms or images, by brute force."""
    shifts = np.array([np.array(cell) @ box for cell in product(range(-4, 5), repeat=3)])
    vectors = coord[None, :, None] - coord[:, None, None] + shifts
    distances = np.linalg.norm(vectors, axis=-1)
    return distances[distances > 0].min()


@pytest.mark.parametrize("seed", range(6))
def test_the_verdict_is_that_of_brute_force_in_skewed_and_small_cells(seed):
    rng = np.random.default_rng(seed)
    box = np.diag([3.0, 4.0, 5.0]) + np.tril(rng.uniform(-2, 2, (3, 3)), -1)
    coord = rng.uniform(-6, 6, (1 + seed, 3))
    shortest = closest(coord, box)
    frames = Frames(
        system="cell",
        indices=np.zeros(1, dtype=np.int64),
        coord=coord[np.newaxis],
        box=box[np.newaxis],
        atom_types=np.zeros((1, len(coord)), dtype=np.int64),
    )
    assert far_enough(frames, shortest - 1e-9).all()
    assert not far_enough(frames, shortest + 1e-9).any()


def test_padding_is_no_atom():
    frames = Frames(
        system="padded",
        indices=np.zeros(1, dtype=np.int64),
        coord=np.zeros((1, 3, 3)),
        box=None,
        atom_types=np.array([[0, -1, -1]]),
    )
    assert far_enough(frames, 1.0).all()
