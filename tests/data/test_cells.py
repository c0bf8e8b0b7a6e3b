"""Cells, slabs in boxes, and neighbours: all pairs against the cell list, cells of every shape."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from dpa2.data.cells import census, far_enough, heights
from dpa2.data.frames import Frames
from dpa2.data.preflight.units import covalent_radii
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


RADII = [4.0, 3.0]


def cells(kind: str, rng: np.random.Generator) -> np.ndarray | None:
    if kind == "none":
        return None
    box = np.tile(np.diag(rng.uniform(11, 14, 3)), (3, 1, 1))
    if kind == "slanted":
        box += rng.uniform(-2, 2, (3, 3, 3))
    if kind == "left-handed":
        box[:, 0] *= -1
    return box


@pytest.mark.parametrize("kind", ["none", "straight", "slanted", "left-handed"])
@pytest.mark.parametrize("padded", [False, True])
def test_all_pairs_and_the_cell_list_agree(kind, padded, monkeypatch):
    rng = np.random.default_rng(3)
    coord = rng.uniform(-20, 20, (3, 30, 3)) if kind != "none" else rng.uniform(0, 9, (3, 30, 3))
    types = rng.integers(-1, 2, (3, 30)) if padded else np.zeros((3, 30), dtype=np.int64)
    box = cells(kind, rng)
    fast = census(coord, box, types, RADII)
    monkeypatch.setattr("dpa2.data.cells._MOST_ATOMS", 0)
    slow = census(coord, box, types, RADII)
    assert np.array_equal(fast.counts, slow.counts)
    near = np.isfinite(slow.nearest)
    assert near.any()
    np.testing.assert_allclose(fast.nearest[near], slow.nearest[near], rtol=1e-12)
    assert np.array_equal(fast.partner[near], slow.partner[near])


def test_small_cells_have_images_of_the_same_atom():
    box = 2.0 * np.eye(3)[None]
    found = census(np.zeros((1, 1, 3)), box, np.zeros((1, 1), dtype=np.int64), [2.1])
    assert found.counts.tolist() == [[[6]]]
    assert found.nearest[0, 0] == pytest.approx(2.0)
    assert found.partner[0, 0] == 0


def test_single_atoms_and_padding_have_no_neighbours():
    types = np.array([[0, -1]])
    found = census(np.zeros((1, 2, 3)), None, types, [3.0])
    assert found.counts.sum() == 0
    assert np.isinf(found.nearest).all()


def test_heights_are_distances_between_faces():
    box = np.array([[[2.0, 0, 0], [1, 3, 0], [0, 0, 4]]])
    expected = [2 * 3 / np.hypot(1, 3), 3.0, 4.0]
    np.testing.assert_allclose(heights(box)[0], expected)


def test_noble_gases_and_other_names_have_no_radius():
    radii = covalent_radii(["H", "O", "Ar", "Xx"])
    np.testing.assert_array_equal(np.isnan(radii), [False, False, True, True])
    assert radii[:2].tolist() == [0.31, 0.66]


def test_vesin_is_imported_without_torch():
    code = (
        "import sys; from dpa2.data.cells import load_vesin; load_vesin();"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
