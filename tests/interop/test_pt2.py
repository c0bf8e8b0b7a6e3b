"""A compiled model (`.pt2`) in our runtime and in `DeepPot`; in LAMMPS: `test_lammps.py`.

It is our torch that compiles, and deepmd-kit's older one that runs it.
"""

import numpy as np
import pytest

import dpa2

pytestmark = pytest.mark.interop

ENERGY = 1e-10  # eV/atom
FORCE = 1e-9  # eV/Å


@pytest.fixture
def structure(compiled_with_parameters):
    """Structures, and deepmd-kit's numbers for the checkpoint."""
    checkpoint, _ = compiled_with_parameters
    return checkpoint.with_name("expected.npz")


@pytest.fixture
def expected(structure):
    with np.load(structure) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture
def compiled(compiled_with_parameters):
    _, path = compiled_with_parameters
    return path


def assert_expected(found, expected):
    num_atoms = expected["atype"].shape[-1]
    for name in ("energy", "force", "virial", "atom_energy"):
        difference = np.abs(np.ravel(found[name]) - expected[name].ravel()).max()
        assert difference <= (ENERGY * num_atoms if name == "energy" else FORCE), name


def test_our_runtime_gives_deepmd_kits_numbers(compiled, expected):
    names = ("coord", "box", "atype", "fparam", "aparam")
    found = dpa2.load(compiled).predict(**{name: expected[name] for name in names})
    assert_expected(
        {name: getattr(found, name) for name in expected if hasattr(found, name)}, expected
    )


def test_deep_pot_gives_its_own_numbers(compiled, structure, expected, deepmd):
    assert_expected(deepmd.run("evaluate_with_deepmd.py", compiled, structure), expected)
