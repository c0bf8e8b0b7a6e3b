"""What `zoo md` writes for LAMMPS runs there, from the first step to a continuation."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms, FixCartesian

from dpa2.ase import Calculator, Parameters
from dpa2.evaluate.potential import load
from dpa2.formats.conversion import freeze
from dpa2.interfaces.md import MdSettings
from dpa2.interfaces.simulation import starting_structure, write_simulation
from tests.interop.conftest import GOLDEN

pytestmark = pytest.mark.interop

ENERGY = 1e-11  # eV
FORCE = 1e-11  # eV/Å
ELEMENTS = ["O", "H"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    return {
        name: freeze(GOLDEN / name / "model.pt", folder / f"{name}.pth").path
        for name in ("small", "fparam_aparam")
    }


def water(pbc=(True, True, True)):
    with np.load(GOLDEN / "small" / "expected.npz") as archive:
        frames = dict(archive)
    symbols = [ELEMENTS[number] for number in frames["atype"]]
    return Atoms(symbols, frames["coord"][0], cell=frames["box"][0], pbc=pbc)


def turned():
    """Return a left-handed, strongly tilted cell across all axes, with velocities and isotopes."""
    atoms = water()
    atoms.set_cell(np.array([[1, 0, 0], [0.8, 1, 0], [-0.9, 0.7, -1]]) @ atoms.cell.array)
    atoms.rotate(40, (1, 2, 3), rotate_cell=True)
    masses = atoms.get_masses()
    masses[np.flatnonzero(atoms.symbols == "H")[:3]] = 2.014
    atoms.set_masses(masses)
    atoms.set_velocities(0.02 * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    return atoms


def hexagonal_layer():
    positions = [[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]]
    cell = [[4, 0, 0], [2, 3.5, 0], [0, 0, 0]]
    return Atoms("OHH", positions, cell=cell, pbc=[True, True, False])


def straight_wire():
    positions = [[0, 0, 0], [0.96, 0, 0], [-0.96, 0, 0]]
    return Atoms("OHH", positions, cell=[5, 0, 0], pbc=[True, False, False])


def run(deepmd, atoms, model, folder, **settings):
    """Run LAMMPS; returns what its log says of every frame: (F, columns)."""
    settings = {"ensemble": "nve", "timestep": 0.25, "steps": 8, "dump_every": 4} | settings
    parameters = settings.pop("parameters", Parameters())
    write_simulation(atoms, model, folder, "lammps", MdSettings(**settings), parameters=parameters)
    deepmd.call("lmp", "-in", "in.lammps", "-log", "log", cwd=folder)
    rows = [line.split() for line in (folder / "log").read_text().splitlines()]
    start = next(k for k, row in enumerate(rows) if row[:1] == ["Step"])
    stop = next(k for k, row in enumerate(rows) if row[:2] == ["Loop", "time"])
    return np.array(rows[start + 1 : stop], dtype=float)


def frame(folder, number):
    return starting_structure(f"{folder}/trajectory.lammpstrj@{number}", ELEMENTS)[0]


def energy(model, atoms, **parameters):
    twin = atoms.copy()
    twin.set_constraint()
    twin.calc = Calculator(load(model), **parameters)
    return twin.get_potential_energy()


@pytest.mark.parametrize(
    ("made", "ensemble"),
    [
        (lambda: molecule("H2O"), "nve"),
        (lambda: Atoms("HOH", [[0, 0, -0.97], [0, 0, 0], [0, 0, 0.97]]), "nvt"),
        (lambda: Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]), "nvt"),
        (lambda: Atoms("O", [[1.0, 2.0, 3.0]]), "nvt"),
        (straight_wire, "nve"),
        (hexagonal_layer, "nvt"),
        (lambda: water((True, True, False)), "nve"),
        (lambda: water((False, True, False)), "nvt"),
        (turned, "nve"),
    ],
    ids=["planar", "linear", "dimer", "atom", "wire", "layer", "slab", "flat_wire", "turned"],
)
def test_lammps_and_predict_agree(made, ensemble, deepmd, models, tmp_path):
    atoms = made()
    table = run(deepmd, atoms, models["small"], tmp_path / "md", ensemble=ensemble)
    assert table[0, 3] == pytest.approx(energy(models["small"], atoms), abs=ENERGY)
    last = frame(tmp_path / "md", -1)
    assert list(last.pbc) == list(atoms.pbc)
    assert table[-1, 3] == pytest.approx(energy(models["small"], last), abs=ENERGY)
    np.testing.assert_allclose(last.get_masses(), atoms.get_masses())
    if ensemble == "nve":
        assert table[-1, 5] == pytest.approx(table[0, 5], abs=1e-3)
    if atoms.has("momenta"):
        assert table[0, 4] == pytest.approx(atoms.get_kinetic_energy(), rel=1e-6)
        assert table[0, 4] > 0.01


def test_held_atoms_stay_and_a_run_goes_on(deepmd, models, tmp_path):
    atoms = water()
    atoms.set_constraint([FixAtoms([0, 5]), FixCartesian([1, 2], (True, False, False))])
    table = run(deepmd, atoms, models["small"], tmp_path / "md", ensemble="nvt", steps=20)
    # 10 atoms move, two of them in two directions only.
    boltzmann = 8.617333262e-5
    assert table[0, 4] == pytest.approx(0.5 * (3 * 10 - 2) * boltzmann * 300.0, rel=1e-5)
    assert table[0, 2] == pytest.approx(300.0, rel=1e-6)
    last = frame(tmp_path / "md", -1)
    moved = np.abs(last.positions - frame(tmp_path / "md", 0).positions)
    assert not moved[[0, 5]].any()
    assert not moved[[1, 2], 0].any()
    assert (np.delete(moved, [0, 5], axis=0)[:, 1:] > 0).all()
    assert sorted(type(kept).__name__ for kept in last.constraints) == ["FixAtoms", "FixCartesian"]
    again = run(deepmd, last, models["small"], tmp_path / "again", ensemble="nve")
    np.testing.assert_allclose(again[0, 2:5], table[-1, 2:5], rtol=1e-9)
    assert again[-1, 5] == pytest.approx(again[0, 5], abs=1e-3)
    # The forces of the trajectory are the model's, held or not.
    lines = (tmp_path / "md" / "trajectory.lammpstrj").read_text().splitlines()
    rows = np.array([line.split() for line in lines[9 : 9 + len(atoms)]])
    assert lines[8].split()[8:11] == ["fx", "fy", "fz"]
    atoms.set_constraint()
    atoms.calc = Calculator(load(models["small"]))
    np.testing.assert_allclose(rows[:, 6:9].astype(float), atoms.get_forces(), atol=FORCE)


def test_a_run_goes_on_from_the_final_data_file(deepmd, models, tmp_path):
    table = run(deepmd, turned(), models["small"], tmp_path / "md")
    last, _ = starting_structure(str(tmp_path / "md" / "final.data"), ELEMENTS)
    again = run(deepmd, last, models["small"], tmp_path / "again", steps=0)
    np.testing.assert_allclose(again[0, 2:5], table[-1, 2:5], rtol=1e-9)


@pytest.mark.parametrize("couple", ["iso", "aniso", "tri"])
def test_the_cell_follows_the_pressure(couple, deepmd, models, tmp_path):
    settings = {"ensemble": "npt", "couple": couple, "steps": 20, "dump_every": 10}
    run(deepmd, water(), models["small"], tmp_path / "md", **settings)
    first, last = (frame(tmp_path / "md", number).cell for number in (0, -1))
    ratio = last.lengths() / first.lengths()
    assert (np.abs(ratio - 1.0) > 1e-5).all()
    assert (np.ptp(ratio) > 1e-6) == (couple != "iso")
    assert (np.abs(last.angles() - first.angles()) > 1e-6).any() == (couple == "tri")


def test_parameters_reach_the_model(deepmd, models, tmp_path):
    atoms = water()
    atoms.info["fparam"] = np.array([0.2, -0.1])
    model = models["fparam_aparam"]
    table = run(deepmd, atoms, model, tmp_path / "md", parameters=Parameters(None, [0.4]))
    aparam = np.full((len(atoms), 1), 0.4)
    assert table[0, 3] == pytest.approx(energy(model, atoms, aparam=aparam), abs=1e-10)
