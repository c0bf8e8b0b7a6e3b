import warnings

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from dpa2.ase import Calculator
from dpa2.evaluate.potential import DroppedNeighborsWarning, NotCompiledWarning
from schemas.base.errors import DataError


def test_the_calculator_gives_the_numbers_of_the_model(atoms, frames):
    assert atoms.get_potential_energy() == pytest.approx(frames["energy"][0, 0], abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), frames["force"][0], atol=1e-10)
    np.testing.assert_allclose(
        atoms.get_potential_energies(), frames["atom_energy"][0].reshape(-1), atol=1e-10
    )
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_the_calculator_computes_in_the_precision_asked_for(atoms, water_model):
    twin = atoms.copy()
    twin.calc = Calculator(water_model, dtype="float32")
    difference = np.abs(twin.get_forces() - atoms.get_forces()).max()
    assert 1e-9 < difference <= 1e-5


def test_a_frozen_model_gives_the_same_numbers(atoms, frozen_model):
    twin = atoms.copy()
    twin.calc = Calculator(frozen_model)
    assert twin.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(twin.get_forces(), atoms.get_forces(), atol=1e-10)
    np.testing.assert_allclose(twin.get_stress(), atoms.get_stress(), atol=1e-12)
    np.testing.assert_allclose(
        twin.get_potential_energies(), atoms.get_potential_energies(), atol=1e-10
    )


def test_forces_are_the_slope_of_the_energy(atoms):
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 1])
    np.testing.assert_allclose(atoms.get_forces()[:2], numerical, atol=1e-6)


def test_stress_is_the_slope_of_the_energy_with_strain(atoms):
    tilt = np.array([[0, 0, 0], [0.4, 0, 0], [0.3, -0.2, 0]])
    atoms.set_cell(atoms.cell.array + tilt, scale_atoms=True)
    np.testing.assert_allclose(
        atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7
    )


def test_an_isolated_structure_has_no_stress(atoms):
    atoms.pbc = False
    assert np.isfinite(atoms.get_potential_energy())
    assert "stress" not in atoms.calc.results


def wide_cell(atoms, pbc):
    """Return a copy, periodic in all directions, with room where `pbc` has no images."""
    twin = atoms.copy()
    twin.pbc = True
    cell = twin.cell.array.copy()
    cell[~np.array(pbc)] *= 6.0
    twin.set_cell(cell)
    twin.calc = Calculator(atoms.calc.potential)
    return twin


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, True), (False, True, False)])
def test_what_is_not_periodic_has_no_images(atoms, pbc):
    twin = wide_cell(atoms, pbc)
    atoms.pbc = pbc
    assert atoms.get_potential_energy() == pytest.approx(twin.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), twin.get_forces(), atol=1e-10)
    ratio = twin.cell.volume / atoms.cell.volume
    np.testing.assert_allclose(atoms.get_stress(), ratio * twin.get_stress(), atol=1e-11)


def test_a_slab_needs_no_third_vector(atoms):
    twin = wide_cell(atoms, (True, True, False))
    cell = atoms.cell.array.copy()
    cell[2] = 0.0
    atoms.set_cell(cell)
    atoms.pbc = [True, True, False]
    assert atoms.get_potential_energy() == pytest.approx(twin.get_potential_energy(), abs=1e-10)
    assert "stress" not in atoms.calc.results


def test_a_periodic_direction_without_a_vector_is_refused(atoms):
    cell = atoms.cell.array.copy()
    cell[1] = 0.0
    atoms.set_cell(cell)
    atoms.pbc = [True, True, False]
    with pytest.raises(DataError, match="span no cell"):
        atoms.get_potential_energy()


def test_an_unknown_element_is_refused(atoms):
    atoms.symbols[0] = "Au"
    with pytest.raises(DataError, match="does not know Au"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("kind", ["water_model", "frozen_model"])
def test_a_run_with_a_skin_equals_one_without(structure, kind, request):
    model = request.getfixturevalue(kind)
    found = {}
    for skin in (0.0, 0.3):
        atoms = structure.copy()
        atoms.calc = Calculator(model, skin=skin)
        atoms.set_momenta(0.1 * np.random.default_rng(1).normal(size=(len(atoms), 3)))
        VelocityVerlet(atoms, timestep=1.0 * fs).run(9)
        found[skin] = atoms.positions, atoms.calc._search.num_searches
    np.testing.assert_allclose(found[0.3][0], found[0.0][0], rtol=0, atol=1e-11)
    # As often as there are evaluations, against some in between: not only the first.
    assert found[0.0][1] == 10
    assert 1 < found[0.3][1] < 10


def test_a_negative_skin_is_refused(water):
    with pytest.raises(DataError, match="no margin"):
        Calculator(water, skin=-1.0)


@pytest.mark.parametrize("kind", ["water_model", "frozen_model"])
def test_neighbors_beyond_the_capacity_are_counted_and_told_once(structure, kind, request):
    structure.set_cell(structure.cell * 0.6, scale_atoms=True)
    structure.calc = Calculator(request.getfixturevalue(kind))
    with pytest.warns(DroppedNeighborsWarning, match="nsel"):
        structure.get_potential_energy()
    first = structure.calc.potential.num_dropped
    structure.rattle(0.001, seed=1)
    structure.get_potential_energy()
    assert 0 < first < structure.calc.potential.num_dropped


def test_without_a_compiler_the_model_runs_as_it_is(water_model, structure, frames, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("no C++ compiler is here\nlong story")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.warns(NotCompiledWarning, match="no C\\+\\+ compiler is here$"):
        structure.calc = Calculator(water_model, compile=True)
    assert structure.get_potential_energy() == pytest.approx(frames["energy"][0, 0], abs=1e-10)


def test_a_frozen_model_is_not_compiled_again(frozen_model):
    with pytest.warns(NotCompiledWarning, match="compiled already"):
        Calculator(frozen_model, compile=True)


def energy_error(calculator, timestep, steps):
    """Return the mean square of what the total energy of a vibrating molecule strays, eV."""
    atoms = molecule("H2O")
    atoms.calc = calculator
    atoms.positions[1] += [0.0, 0.03, 0.0]
    dynamics = VelocityVerlet(atoms, timestep=timestep * fs)
    energies = [atoms.get_total_energy()]
    for _ in range(steps):
        dynamics.run(1)
        energies.append(atoms.get_total_energy())
    return np.sqrt(np.mean(np.square(np.array(energies) - energies[0])))


def test_energy_is_conserved_to_second_order_in_the_time_step(water):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coarse = energy_error(Calculator(water), 0.5, 40)
        fine = energy_error(Calculator(water), 0.25, 80)
    assert coarse / fine == pytest.approx(4.0, rel=0.15)
