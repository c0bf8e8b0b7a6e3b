"""The cell of a data set has the energy of the slab, wire or left-handed cell it stands for."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from dpa2.data.structures.structure import Reading, Structure, in_a_box

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
