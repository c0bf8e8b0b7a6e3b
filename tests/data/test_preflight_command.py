"""The preflight on the command line, and what it keeps between checks."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli.input_check import with_data
from dpa2.data.preflight import opened
from dpa2.data.preflight.opened import cached_survey, default_folder
from dpa2.data.systems import open_systems
from dpa2.training.stat_file import FINGERPRINT, statistics_fingerprint
from schemas.check.input_file import check_text
from tests.commands import outcome

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(make_system, monkeypatch, tmp_path):
    """Change into a folder with one small system of random atoms, all of one energy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    system = make_system("water", sets=(6,))
    np.save(system / "set.000" / "energy.npy", np.full(6, -30.0))
    return system


def text(nsel: int = 20, **training: object) -> str:
    document = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {
                "type": "dpa2",
                "repinit": {"rcut": 6.0, "rcut_smth": 1.0, "nsel": nsel},
                "repformer": {"rcut": 2.0, "rcut_smth": 1.0, "nsel": 1},
            },
            "fitting_net": {},
        },
        "learning_rate": {"start_lr": 0.001},
        "loss": {},
        "training": {"training_data": {"systems": ["water"]}, "numb_steps": 1000000} | training,
    }
    return json.dumps(document, indent=2)


def codes(report) -> set[str]:
    return {item.code for item in report.diagnostics}


def test_findings_stand_where_the_input_says_it(folder):
    report = with_data(check_text(text(nsel=2)))
    (found,) = [item for item in report.diagnostics if item.code == "ZOO442"]
    assert found.path == ("model", "descriptor", "repinit", "nsel")
    line = report.lines[found.span.line - 1]
    assert line[found.span.col - 1 : found.span.end_col - 1] == "2"
    assert found.severity == "error"
    assert not report.ok


def test_an_input_with_other_faults_has_its_data_checked_too(folder):
    np.save(folder / "set.000" / "energy.npy", np.full(6, np.nan))
    report = with_data(check_text(text(disp_freq=0)))
    assert {"ZOO104", "ZOO432"} <= codes(report)


def test_what_a_rule_said_is_not_said_again(folder):
    (folder / "set.000" / "box.npy").unlink()
    report = with_data(check_text(text()))
    assert "ZOO403" in codes(report)
    assert "ZOO431" not in codes(report)


def test_cutoffs_in_nanometres_are_said_once(folder):
    short = json.loads(text())
    descriptor = short["model"]["descriptor"]
    descriptor["repinit"] |= {"rcut": 0.6, "rcut_smth": 0.1}
    descriptor["repformer"] |= {"rcut": 0.4, "rcut_smth": 0.1}
    found = codes(with_data(check_text(json.dumps(short))))
    assert "ZOO213" in found
    assert "ZOO444" not in found


def test_data_that_do_not_exist_are_no_matter_of_the_preflight(folder):
    report = check_text(text().replace('"water"', '"nowhere"'))
    assert with_data(report) is report


def test_statistics_of_other_data_are_refused_before_the_run(folder):
    config = check_text(text()).config
    bias = np.array([[-10.0], [-10.0]])
    fingerprint = statistics_fingerprint(open_systems("water", ["O", "H"]), config.model)

    def stored(name: str, **entries: np.ndarray) -> set[str]:
        with h5py.File(name, "w") as file:
            group = file.create_group("O H")
            for key, value in entries.items():
                group[key] = value
        return codes(with_data(check_text(text(stat_file=name))))

    def mark(value: str) -> dict[str, np.ndarray]:
        return {FINGERPRINT: np.array([value], dtype="S")}

    assert "ZOO447" not in stored("ours.hdf5", **mark(fingerprint))
    assert "ZOO447" in stored("other.hdf5", **mark("0" * 64))
    assert "ZOO447" not in stored("deepmd.hdf5", bias_atom_energy=bias)
    assert "ZOO447" in stored("shifted.hdf5", bias_atom_energy=bias - 5.0)


def test_reading_data_needs_no_torch(folder):
    code = (
        "import sys; from cli.input_check import with_data;"
        "from schemas.check.input_file import check_text;"
        f"report = with_data(check_text({text()!r})); print(len(report.diagnostics));"
        "sys.exit('torch' in sys.modules or 'numpy' not in sys.modules)"
    )
    environment = {"PYTHONPATH": str(ROOT), "ZOO_CACHE": "cache"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


def run(*arguments: str):
    return outcome("data", "check", *arguments)


def test_bare_data_are_checked_without_an_input(folder):
    result = run("water", "--rcut", "6", "--rcut", "4", "--json", "--quiet")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["ok"]
    assert [item["rcut"] for item in document["neighbors"]] == [4.0, 6.0]
    assert sum(document["neighbors"][1]["histogram"]) == 6 * 3
    assert document["systems"][0]["formula"] == "O1H2"


def test_faults_of_bare_data_are_errors(folder):
    np.save(folder / "set.000" / "force.npy", np.full((6, 9), np.inf))
    result = run("water", "--type-map", "H O")
    assert result.exit_code == 1
    assert "water  error  ZOO432" in result.stdout
    assert "within 6 Å" in result.stdout


@pytest.fixture
def five_frames(make_system) -> Path:
    return make_system(sets=(3, 2))


def look(five_frames: Path, kept: Path):
    (system,) = open_systems(str(five_frames), ["O", "H"])
    return cached_survey(system, ["O", "H"], [3.0, 2.0], kept)


def test_a_survey_is_the_same_from_the_cache(five_frames, tmp_path, monkeypatch):
    first = look(five_frames, tmp_path / "kept")
    monkeypatch.setattr(opened, "survey", None)  # would fail if it were called
    second = look(five_frames, tmp_path / "kept")
    for name in first.__slots__:
        np.testing.assert_equal(getattr(first, name), getattr(second, name))


def test_changed_data_are_read_again(five_frames, tmp_path):
    look(five_frames, tmp_path / "kept")
    np.save(five_frames / "set.000" / "energy.npy", np.full(3, 7.0))
    assert look(five_frames, tmp_path / "kept").energy[:3].tolist() == [7.0] * 3


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_cache_is_replaced(five_frames, tmp_path, content):
    look(five_frames, tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(content)
    assert look(five_frames, tmp_path / "kept").num_frames == 5
    assert file.stat().st_size > len(content)


def test_a_cache_that_cannot_be_written_is_no_error(five_frames, tmp_path):
    (tmp_path / "kept").write_text("a file, not a folder")
    assert look(five_frames, tmp_path / "kept").num_frames == 5


def test_the_cache_is_below_zoo_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "preflight"
    monkeypatch.delenv("ZOO_CACHE")
    assert default_folder().name == "preflight"
