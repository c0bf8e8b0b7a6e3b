"""States of an ASE calculator that change between two calls."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from dpa2.ase import Calculator
from dpa2.evaluate.potential import load
from schemas.base.errors import DataError
from tests.evaluate.conftest import GOLDEN
from tests.strangers.simulations import water_of
from tests.strangers.situations import case, situation


@pytest.fixture(scope="module")
def model():
    return load(GOLDEN / "fparam_aparam" / "model.pt")


@pytest.fixture
def atoms(model):
    """Return water with parameters of the calculator, evaluated once."""
    atoms = water_of("fparam_aparam")
    aparam = np.linspace(-0.3, 0.3, len(atoms))[:, None]
    atoms.calc = Calculator(model, fparam=np.array([0.2, -0.1]), aparam=aparam)
    atoms.get_potential_energy()
    return atoms


def energy(model, atoms, fparam, aparam):
    """Return what the model itself says."""
    box = atoms.cell.array if atoms.pbc.any() else None
    return model.predict(
        atoms.positions, box, list(atoms.symbols), fparam, aparam, atomic=False
    ).energy[0]


OTHER = [0.9, 0.4]


def set_in_place(atoms):
    atoms.calc.fparam[:] = OTHER


def set_info_in_place(atoms):
    atoms.info["fparam"] = np.array([0.5, 0.5])
    atoms.get_potential_energy()
    atoms.info["fparam"][:] = OTHER


def other_aparam(atoms):
    return np.linspace(0.5, -0.5, len(atoms))[:, None]


def exchange(atoms):
    atoms.symbols[[0, -1]] = atoms.symbols[[-1, 0]]


@pytest.mark.parametrize("change", [
    case("ASE scripts | calc.fparam = ... between two calls | a new energy",
         lambda atoms: setattr(atoms.calc, "fparam", OTHER)),
    case("ASE scripts | calc.fparam[:] = ... in place | a new energy", set_in_place),
    case("ASE scripts | calc.set(fparam=...) | a new energy",
         lambda atoms: atoms.calc.set(fparam=OTHER)),
    case('scripts for deepmd-kit\'s calculator | atoms.info["fparam"] beside calc.fparam | the '
         "structure's own counts", lambda atoms: atoms.info.update(fparam=OTHER)),
    case('scripts for deepmd-kit\'s calculator | atoms.info["fparam"][:] = ... in place | a new '
         "energy", set_info_in_place),
    case("ASE scripts | calc.aparam = ... between two calls | a new energy",
         lambda atoms: setattr(atoms.calc, "aparam", other_aparam(atoms))),
    case('extxyz with a column aparam | atoms.arrays["aparam"] beside calc.aparam | the '
         "structure's own counts", lambda atoms: atoms.set_array("aparam", other_aparam(atoms))),
    case('scripts for deepmd-kit\'s calculator | atoms.info["aparam"], where its calculator looks '
         "| taken", lambda atoms: atoms.info.update(aparam=other_aparam(atoms).reshape(-1))),
    case("ASE | pbc changes, positions do not | seen", lambda atoms: atoms.set_pbc(False)),
    case("ASE | the cell changes, positions do not | seen",
         lambda atoms: atoms.set_cell(0.98 * atoms.cell.array)),
    case("ASE | two atoms change their elements | seen", exchange),
])  # fmt: skip
def test_a_change_is_seen(change, atoms, model):
    before = atoms.get_potential_energy()
    change(atoms)
    fparam = atoms.info.get("fparam", atoms.calc.fparam)
    aparam = atoms.arrays.get("aparam", atoms.info.get("aparam", atoms.calc.aparam))
    expected = energy(model, atoms, fparam, aparam.reshape(-1, 1))
    assert abs(expected - before) > 1e-4
    assert atoms.calc.calculation_required(atoms, ["energy"])
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-12)
    assert not atoms.calc.calculation_required(atoms, ["energy"])


@situation("""ASE structures with charges, magnetic moments, masses, tags | what the model does not
    see changes | nothing is computed again""")
def test_what_the_model_does_not_see_costs_nothing(atoms):
    atoms.set_initial_charges(np.arange(len(atoms)))
    atoms.set_initial_magnetic_moments(np.arange(len(atoms)))
    atoms.set_masses(np.full(len(atoms), 2.0))
    atoms.set_tags(1)
    atoms.info["fparams"] = 3.0
    assert not atoms.calc.calculation_required(atoms, ["energy", "forces", "stress"])


@situation("""ASE | calc.fparam changes, then calc.get_potential_energy() without a structure | a
    new energy of the last structure""")
def test_the_last_structure_is_evaluated_with_new_parameters(atoms, model):
    atoms.calc.fparam = [0.9, 0.4]
    expected = energy(model, atoms, [0.9, 0.4], atoms.calc.aparam)
    assert atoms.calc.get_potential_energy() == pytest.approx(expected, abs=1e-12)


@situation("""scripts for other calculators | a keyword that means nothing here (head, fparams) when
    the calculator is made | refused: it would change nothing""")
def test_an_unknown_keyword_is_refused(model):
    with pytest.raises(DataError, match="no parameter fparams, head"):
        Calculator(model, head="H2O", fparams=[1.0])


@situation("""files for another model | parameters in a structure whose model takes none | left
    alone""")
def test_parameters_for_another_model_are_left_alone(atoms):
    plain = load(GOLDEN / "small" / "model.pt")
    atoms.calc = Calculator(plain)
    before = atoms.get_potential_energy()
    atoms.info["fparam"] = [0.9, 0.4]
    atoms.set_array("aparam", np.ones((len(atoms), 1)))
    assert atoms.get_potential_energy() == before


@situation("ASE | a left-handed cell | the energy of the same atoms in a right-handed one")
def test_a_left_handed_cell_is_the_same_crystal(atoms):
    twin = atoms.copy()
    twin.calc = atoms.calc
    atoms.set_cell(atoms.cell.array * [[1], [1], [-1]])
    assert atoms.cell.handedness == -1
    assert atoms.get_potential_energy() == pytest.approx(twin.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(atoms.get_stress(), twin.get_stress(), atol=1e-10)


@pytest.fixture
def torch_sim_model(monkeypatch):
    """Return our model class for torch-sim, whose own base class wants a newer Python."""

    class Interface(torch.nn.Module):
        dtype = property(lambda self: self._dtype)
        device = property(lambda self: self._device)

    module = ModuleType("torch_sim.models.interface")
    module.ModelInterface = Interface
    monkeypatch.setitem(sys.modules, "torch_sim", ModuleType("torch_sim"))
    monkeypatch.setitem(sys.modules, "torch_sim.models", ModuleType("torch_sim.models"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "dpa2.interfaces.torch_sim", raising=False)
    from dpa2.interfaces.torch_sim import TorchSimModel

    yield TorchSimModel
    sys.modules.pop("dpa2.interfaces.torch_sim")


def state_of(atoms):
    return SimpleNamespace(
        positions=torch.tensor(atoms.positions),
        row_vector_cell=torch.tensor(atoms.cell.array)[None],
        system_idx=torch.zeros(len(atoms), dtype=torch.int64),
        atomic_numbers=torch.tensor(atoms.numbers),
        pbc=torch.tensor(atoms.pbc),
    )


@situation("torch-sim | a model that takes fparam, which changes between two calls | a new energy")
def test_torch_sim_sees_new_parameters(torch_sim_model, atoms):
    atoms.pbc = [True, True, False]
    model = torch_sim_model(GOLDEN / "default_fparam" / "model.pt", fparam=[0.2, -0.1])
    found = []
    for fparam in ([0.2, -0.1], [0.9, 0.4]):
        model.fparam = fparam
        found.append(float(model(state_of(atoms))["energy"]))
        atoms.calc = Calculator(model.potential, fparam=fparam)
        assert found[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    assert abs(found[0] - found[1]) > 1e-5


@situation("torch-sim | a model that takes aparam, which states do not have | refused at once")
def test_torch_sim_refuses_models_with_parameters_of_atoms(torch_sim_model, model):
    with pytest.raises(DataError, match="takes aparam"):
        torch_sim_model(model)
