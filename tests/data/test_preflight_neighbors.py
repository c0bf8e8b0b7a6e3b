"""Counting neighbours: all pairs against the cell list, cells of every shape, torch left alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpa2.data.cells import census, heights
from dpa2.data.preflight.units import covalent_radii

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
