import numpy as np
import pytest
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from schemas.errors import DataError


@pytest.fixture
def atoms(water, frames):
    from dpa2.ase import Calculator

    symbols = [water.type_map[number] for number in frames["atype"]]
    structure = Atoms(symbols, frames["coord"][0], cell=frames["box"][0], pbc=True)
    structure.calc = Calculator(water)
    return structure


def test_the_calculator_gives_the_numbers_of_the_model(atoms, frames):
    assert atoms.get_potential_energy() == pytest.approx(frames["energy"][0, 0], abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), frames["force"][0], atol=1e-10)
    np.testing.assert_allclose(
        atoms.get_potential_energies(), frames["atom_energy"][0].reshape(-1), atol=1e-10
    )
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_forces_are_the_slope_of_the_energy(atoms):
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 1])
    np.testing.assert_allclose(atoms.get_forces()[:2], numerical, atol=1e-6)


def test_stress_is_the_slope_of_the_energy_with_strain(atoms):
    np.testing.assert_allclose(
        atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7
    )


def test_an_isolated_structure_has_no_stress(atoms):
    atoms.pbc = False
    assert np.isfinite(atoms.get_potential_energy())
    assert "stress" not in atoms.calc.results


def test_partial_periodicity_is_refused(atoms):
    atoms.pbc = [True, True, False]
    with pytest.raises(DataError, match="periodic in some directions"):
        atoms.get_potential_energy()


def test_an_unknown_element_is_refused(atoms):
    atoms.symbols[0] = "Au"
    with pytest.raises(DataError, match="does not know Au"):
        atoms.get_potential_energy()
