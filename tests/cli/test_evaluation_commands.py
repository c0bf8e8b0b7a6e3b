"""`zoo test`, `zoo compare`, `zoo predict` and `zoo plot` from the outside."""

import json
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest

from dpa2.formats.conversion import freeze
from schemas.base.errors import CheckpointError, DataError, RegistryError
from tests.commands import answer, document, zoo
from tests.containers import write_npy

GOLDEN = Path(__file__).parents[1] / "golden" / "small"
MODEL = str(GOLDEN / "model.pt")
OTHER = str(GOLDEN.parent / "resnet_dt" / "model.pt")


@pytest.fixture
def system(tmp_path):
    with np.load(GOLDEN / "expected.npz") as archive:
        frames = dict(archive)
    shifts = {"coord": 0, "box": 0, "energy": 0.5, "force": 0.25}
    count = len(frames["coord"])
    arrays = {name: (frames[name] + shift).reshape(count, -1) for name, shift in shifts.items()}
    write_npy(tmp_path / "water", arrays, frames["atype"])
    return tmp_path / "water"


def test_test_prints_a_table_for_each_system_and_the_total(system):
    result = zoo("test", "-m", MODEL, "-s", system, system, "-q")
    assert result.exit_code == 0
    assert result.stdout.count("Force") == 3
    assert "0.25" in result.stdout
    assert "eV/Å" in result.stdout
    assert "all 2 systems, weighted" in result.stdout
    assert "Virial" not in result.stdout


def test_many_systems_make_one_table(system):
    result = zoo("test", "-m", MODEL, *["-s", system] * 5, "-n", 1, "-q")
    assert "RMSE by system" in result.stdout
    assert "all 5 systems, weighted" in result.stdout


def test_test_gives_json(system, tmp_path):
    listed = tmp_path / "list"
    listed.write_text(f"{system}\n")
    result = zoo("test", "-m", MODEL, "-f", listed, "-n", 1, "--json", "-q")
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert document["total"]["errors"]["force"]["rmse"] == pytest.approx(0.25)
    assert document["total"]["errors"]["force"]["unit"] == "eV/Å"
    assert document["systems"][0]["num_frames"] == 1


def test_test_writes_details_and_a_plot(system, tmp_path):
    zoo("test", "-m", MODEL, "-s", system, "-d", tmp_path / "x", "--plot", tmp_path / "p.png")
    assert np.loadtxt(tmp_path / "x.f.out").shape[1] == 6
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_test_needs_data():
    result = zoo("test", "-m", MODEL)
    assert result.exit_code == 2
    assert "--system" in result.output


def test_test_refuses_what_does_not_exist(system):
    with pytest.raises(CheckpointError, match="does not exist"):
        zoo("test", "-m", "nothing.pt", "-s", system)
    with pytest.raises(DataError, match="no such file or folder"):
        zoo("test", "-m", MODEL, "-s", "nothing")


def test_all_elements_are_checked_before_the_first_evaluation(system, tmp_path):
    other = tmp_path / "other"
    system.rename(other)
    (other / "type_map.raw").write_text("O\nKr\n")
    with pytest.raises(DataError, match="Kr"):
        zoo("test", "-m", MODEL, "-s", other, "-d", tmp_path / "x")
    assert not list(tmp_path.glob("x*"))


def test_predict_writes_what_ase_reads(system, tmp_path):
    import ase.io

    output = tmp_path / "predicted.extxyz"
    result = zoo("predict", "-m", MODEL, system, "-o", output, "--json", "-a", "-q")
    document = json.loads(result.stdout)
    with np.load(GOLDEN / "expected.npz") as archive:
        expected = dict(archive)
    structures = ase.io.read(output, index=":")
    assert len(structures) == len(document["structures"]) == len(expected["coord"])
    for index, atoms in enumerate(structures):
        energy = expected["energy"].reshape(-1)[index]
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-7)
        assert document["structures"][index]["energy"] == pytest.approx(energy, abs=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), expected["force"][index], atol=1e-7)
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        symmetric = expected["virial"][index].reshape(3, 3)
        np.testing.assert_allclose(virial, (symmetric + symmetric.T) / 2, atol=1e-6)
        assert atoms.get_potential_energies().sum() == pytest.approx(energy, abs=1e-6)
    again = zoo("predict", "-m", MODEL, output, "-o", tmp_path / "b.extxyz", "--json", "-q")
    energies = [entry["energy"] for entry in json.loads(again.stdout)["structures"]]
    np.testing.assert_allclose(energies, expected["energy"].reshape(-1), atol=1e-5)


def test_predict_names_the_structure_that_does_not_fit(tmp_path):
    path = tmp_path / "two.xyz"
    path.write_text("1\n\nO 0 0 0\n1\n\nXe 0 0 0\n")
    command = ["predict", "-m", MODEL, path, "-o", tmp_path / "out.xyz"]
    words = r"two\.xyz, structure 1 .* does not know Xe"
    with pytest.raises(DataError, match=words):
        zoo(*command, "--strict")
    assert not (tmp_path / "out.xyz").exists()
    result = zoo(*command)
    assert result.exit_code == 1
    assert re.search(words, result.stderr)
    first, second = ase.io.read(tmp_path / "out.xyz", index=":")
    assert np.isfinite(first.get_potential_energy())
    assert np.isnan(second.get_potential_energy())


def test_predict_refuses_files_that_hold_no_structure(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    with pytest.raises(DataError, match="ASE cannot read"):
        zoo("predict", "-m", MODEL, path, "-o", tmp_path / "out.xyz")
    with pytest.raises(DataError, match="both input and output"):
        zoo("predict", "-m", MODEL, path, "-o", path)


def test_plot_draws_to_the_terminal_and_to_a_file(tmp_path):
    path = tmp_path / "lcurve.out"
    path.write_text("# step  rmse_trn  rmse_f_trn  lr\n 1 2.0 0.5 1e-3\n 100 1.0 nan 1e-4\n")
    result = zoo("plot", path, "-o", tmp_path / "curve.png")
    assert "Force RMSE (eV/Å)" in result.stdout
    assert (tmp_path / "curve.png").exists()
    told = document("plot", path, "-q")
    assert told["last"] == {
        "step": 100,
        "learning_rate": 1e-4,
        "rmse_trn": 1.0,
        "rmse_f_trn": 0.5,
    }


def test_plot_draws_several_runs_in_one_file(tmp_path):
    runs = []
    for name, last in (("one", 0.5), ("two", 0.25)):
        path = tmp_path / f"{name}.out"
        path.write_text(f"# step rmse_val rmse_trn lr\n 1 2.0 2.1 1e-3\n 9 {last} 0.1 1e-4\n")
        runs.append(f"{name}={path}")
    told = document("plot", *runs, "-o", tmp_path / "both.svg")
    assert [entry["file"] for entry in told["runs"]] == ["one", "two"]
    assert [entry["last"]["rmse_val"] for entry in told["runs"]] == [0.5, 0.25]
    drawn = (tmp_path / "both.svg").read_text()
    assert "one validation" in drawn
    assert "one training" not in drawn


def test_compare_puts_models_side_by_side(system):
    result = zoo("compare", f"first={MODEL}", MODEL, "-s", system, "-q")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if "0.25" in line]
    assert [row[0] for row in rows] == ["first", "model.pt"]
    told = document("compare", MODEL, "-s", system)
    (entry,) = told["models"]
    assert entry["errors"]["force"]["rmse"] == pytest.approx(0.25, rel=1e-6)


SINGLE = ("--dtype", "float32")


@pytest.mark.parametrize(
    "words",
    [
        ("test", "-m", MODEL, "-s"),
        ("compare", MODEL, "-s"),
        ("deviation", "-m", MODEL, "-m", OTHER, "-s"),
        ("predict", "-m", MODEL),
    ],
    ids=lambda words: words[0],
)
def test_commands_compute_in_the_precision_asked_for(system, words, tmp_path):
    def said(number, *more):
        writes = ("-o", tmp_path / str(number)) if words[0] in ("deviation", "predict") else ()
        text = json.dumps(document(*words, system, *writes, *more))
        return np.array([float(found) for found in re.findall(r": (-?\d\S*\d)\b", text)])

    own, single = said(1), said(2, *SINGLE)
    assert own.shape == single.shape
    assert 0 < np.abs(own - single).max() < 1e-4
    np.testing.assert_array_equal(said(3, "--dtype", "auto"), own)


@pytest.mark.parametrize(
    "words",
    [
        ("test", "-m", "x.pth", "-s", "system"),
        ("compare", "x.pth", "-s", "system"),
        ("speed", "x.pth", "-s", "system"),
        ("deviation", "-m", "x.pth", "-m", MODEL, "-s", "system"),
        ("predict", "-m", "x.pth", "system", "-o", "y.xyz"),
        ("md", "system", "-m", "x.pth", "-o", "folder"),
    ],
    ids=lambda words: words[0],
)
def test_a_frozen_model_keeps_its_precision(system, words, tmp_path, monkeypatch):
    freeze(MODEL, tmp_path / "x.pth")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "system").symlink_to(system)
    with pytest.raises(CheckpointError, match=r"x\.pth is a frozen model: its precision is fixed"):
        zoo(*words, *SINGLE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["system", "water", "x.pth"]


def test_a_precision_must_be_one(system):
    code, said = answer("test", "-m", MODEL, "-s", system, "--dtype", "float8")
    assert code == 2
    assert "'auto', 'float32', 'float64'" in said


def test_models_of_one_file_name_are_called_by_their_paths(system, tmp_path):
    (tmp_path / "model.pt").write_bytes(Path(MODEL).read_bytes())
    words = ["compare", MODEL, tmp_path / "model.pt", "-s", system, "--json"]
    found = json.loads(zoo(*words).stdout)["models"]
    assert [entry["name"] for entry in found] == ["model.pt", str(tmp_path / "model.pt")]


def test_what_is_odd_about_a_system_is_said_once(system):
    result = zoo("compare", f"a={MODEL}", f"b={MODEL}", "-s", system, "-s", system, "-q")
    assert result.stderr.count("listed more than once") == 1


def test_a_model_that_is_neither_file_nor_name_is_one_sentence(system):
    with pytest.raises(RegistryError, match="`DPA7` is neither a file nor a model"):
        zoo("test", "-m", "DPA7", "-s", system)


def test_a_file_with_an_equals_sign_in_its_path_is_taken_as_it_stands(tmp_path):
    path = tmp_path / "lr=1e-3" / "lcurve.out"
    path.parent.mkdir()
    path.write_text("# step rmse_trn lr\n 1 2.0 1e-3\n")
    assert document("plot", path)["file"] == str(path)


def test_two_of_the_same_name_are_refused(system, tmp_path):
    path = tmp_path / "lcurve.out"
    path.write_text("# step rmse_trn lr\n 1 2.0 1e-3\n")
    assert zoo("plot", f"a={path}", f"a={path}").exit_code == 2
    assert zoo("compare", f"a={MODEL}", f"a={MODEL}", "-s", system).exit_code == 2
