import json
import runpy

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from dpa2.ase import Parameters, box_of
from dpa2.evaluate.potential import load
from dpa2.formats.conversion import freeze
from dpa2.interfaces.lammps import lammps_script, lammps_structure
from dpa2.interfaces.md import MdSettings
from dpa2.model.neighbors import pairs_within
from schemas.base.errors import DataError, TrainingError


@pytest.fixture
def water_file(structure, tmp_path):
    path = tmp_path / "water.extxyz"
    write(path, structure)
    return path


def test_lammps_gets_a_script_a_structure_and_a_frozen_model(
    run, water_file, water_model, structure, tmp_path
):
    folder = tmp_path / "md"
    more = ("--ensemble", "npt", "-T", 330, "--timestep", 0.25, "--steps", 50, "--seed", 7)
    text = run("md", water_file, "-m", water_model, "-o", folder, *more, "--json").stdout
    document = json.loads(text)
    assert sorted(path.name for path in folder.iterdir()) == sorted(document["files"])
    assert document["elements"] == ["O", "H"]
    script = (folder / "in.lammps").read_text()
    lines = [line.partition("#")[0].split() for line in script.splitlines()]
    for text in (
        "pair_style deepmd model.pth",
        "pair_coeff * * O H",
        "boundary p p p",
        "timestep 0.00025",
        "velocity all create 330.0 7 mom yes rot no dist gaussian",
        "fix move all npt temp 330.0 330.0 0.025 iso 1.0 1.0 0.25",
        "run 50",
    ):
        assert text.split() in lines
    data = read(folder / "structure.data", format="lammps-data", atom_style="atomic")
    assert list(data.symbols) == list(structure.symbols)
    difference = data.get_scaled_positions() - read(water_file).get_scaled_positions()
    np.testing.assert_allclose(difference - np.rint(difference), 0.0, atol=1e-12)


@pytest.mark.parametrize("model", ["model.pth", "model.pt2", "model.savedmodel"])
def test_the_script_offers_several_processes_to_models_that_can_use_them(model, structure):
    files = ("in.lammps", "structure.data", model)
    placed = lammps_structure(structure, ["O", "H"])
    script = lammps_script(placed, MdSettings(), files, Parameters())
    assert ("mpirun" in script) == (model == "model.pth")


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_cell_lammps_sees_the_same_neighbours(seed):
    rng = np.random.default_rng(seed)
    while abs(np.linalg.det(cell := 4.0 * rng.normal(size=(3, 3)))) < 20.0:
        pass
    pbc = rng.random(3) < 0.6
    atoms = Atoms("OHHOHH", rng.normal(size=(6, 3)) * 5.0, cell=cell, pbc=pbc)
    placed = lammps_structure(atoms, ["O", "H"])
    assert not np.triu(placed.cell, 1).any()
    assert (np.diag(placed.cell) > 0).all()
    inside = placed.positions @ np.linalg.inv(placed.cell)
    assert (inside > -1e-9).all()
    assert (inside < 1.0 + 1e-9).all()
    found = pairs_within(placed.positions, placed.cell, 5.0)
    expected = pairs_within(atoms.positions, box_of(atoms, 5.0), 5.0)
    for pairs in (found, expected):
        assert len(pairs[0])
    order, wanted = (np.lexsort((np.round(p[3], 6), p[1], p[0])) for p in (found, expected))
    for column in (0, 1, 3):
        np.testing.assert_allclose(
            found[column][order], expected[column][wanted], rtol=0, atol=1e-9
        )


def test_a_molecule_gets_room_and_no_images(run, water_model, tmp_path):
    atoms = molecule("H2O")
    write(tmp_path / "molecule.xyz", atoms)
    folder = tmp_path / "md"
    run("md", tmp_path / "molecule.xyz", "-m", water_model, "-o", folder)
    script = (folder / "in.lammps").read_text().split("\n")
    assert any(line.split()[:4] == ["boundary", "m", "m", "m"] for line in script)
    data = read(folder / "structure.data", format="lammps-data", atom_style="atomic")
    inside = data.cell.scaled_positions(data.positions)
    assert (inside > 0.2).all()
    assert (inside < 0.8).all()
    np.testing.assert_allclose(
        data.get_all_distances(), atoms.get_all_distances(), rtol=0, atol=1e-7
    )


def test_a_slab_keeps_its_periodic_directions(run, structure, water_model, tmp_path):
    structure.pbc = [True, True, False]
    write(tmp_path / "slab.extxyz", structure)
    run("md", tmp_path / "slab.extxyz", "-m", water_model, "-o", tmp_path / "md")
    script = (tmp_path / "md" / "in.lammps").read_text().split("\n")
    assert any(line.split()[:4] == ["boundary", "p", "p", "m"] for line in script)


def test_velocities_of_the_structure_are_kept(run, structure, water_model, tmp_path):
    structure.set_momenta(np.random.default_rng(0).normal(size=(len(structure), 3)))
    write(tmp_path / "moving.extxyz", structure)
    run("md", tmp_path / "moving.extxyz", "-m", water_model, "-o", tmp_path / "md")
    assert "Velocities" in (tmp_path / "md" / "structure.data").read_text()
    assert "velocity " not in (tmp_path / "md" / "in.lammps").read_text()


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_ase_runs_what_was_written(run, water_file, frozen_model, ensemble, tmp_path, monkeypatch):
    folder = tmp_path / "md"
    more = ("--engine", "ase", "--ensemble", ensemble, "--steps", 4, "--dump-every", 2)
    run("md", water_file, "-m", frozen_model, "-o", folder, *more)
    monkeypatch.chdir(folder)
    runpy.run_path("run.py")
    trajectory = read(folder / "trajectory.traj", index=":")
    assert len(trajectory) == 3
    assert not np.allclose(trajectory[0].positions, trajectory[-1].positions)
    moved = np.allclose(trajectory[0].cell, trajectory[-1].cell)
    assert moved == (ensemble != "npt")


def test_a_run_computes_in_the_precision_asked_for(run, water_file, water_model, tmp_path):
    def written(engine):
        words = ("md", water_file, "-m", water_model, "-o", tmp_path / engine, "--engine", engine)
        run(*words, "--dtype", "float32")
        return tmp_path / engine

    assert 'Calculator("model.pt", dtype="float32")' in (written("ase") / "run.py").read_text()
    frozen = load(written("lammps") / "model.pth")
    assert frozen.model_params["descriptor"]["precision"] == "float32"


def test_a_folder_in_use_is_kept(run, water_file, water_model, tmp_path):
    folder = tmp_path / "md"
    run("md", water_file, "-m", water_model, "-o", folder)
    (folder / "in.lammps").write_text("mine")
    with pytest.raises(DataError, match=r"already has in\.lammps"):
        run("md", water_file, "-m", water_model, "-o", folder)
    assert (folder / "in.lammps").read_text() == "mine"
    run("md", water_file, "-m", water_model, "-o", folder, "--force")
    assert (folder / "in.lammps").read_text() != "mine"


def test_a_model_is_never_replaced_by_itself(run, water_file, water_model, tmp_path):
    folder = tmp_path / "md"
    folder.mkdir()
    model = freeze(water_model, folder / "model.pth").path
    before = model.read_bytes()
    with pytest.raises(DataError, match="replaced by itself"):
        run("md", water_file, "-m", model, "-o", folder, "--force")
    assert model.read_bytes() == before


def test_without_lammps_a_sentence_says_what_to_install(
    run, water_file, water_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrainingError, match="no program lmp") as refusal:
        run("md", water_file, "-m", water_model, "-o", tmp_path / "md", "--run")
    assert "deepmd-kit" in refusal.value.hint


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("H2O", ("--ensemble", "npt"), "not periodic in all directions"),
        ("H2O", ("--timestep", 0), "timestep of 0"),
        ("H2O", ("--temperature", -5), "temperature of -5"),
        ("NH3", (), "does not know N"),
    ],
)
def test_what_makes_no_sense_is_refused(run, water_model, name, arguments, reason, tmp_path):
    write(tmp_path / "molecule.xyz", molecule(name))
    with pytest.raises(DataError, match=reason):
        run("md", tmp_path / "molecule.xyz", "-m", water_model, "-o", tmp_path / "md", *arguments)
    assert not (tmp_path / "md").exists()
