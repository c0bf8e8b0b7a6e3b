import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.finetune.cases import MODEL


@pytest.fixture
def run():
    def invoke(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    return invoke


@pytest.fixture
def locked(case_folder, run, tmp_path):
    """A fine-tuning that was run, and its lock file with the checkpoint in it."""
    case_folder("copied", numb_steps=1)
    command = ["finetune", "input.json", "--model", str(MODEL), "--branch", "scan", "--quiet"]
    assert run(*command).exit_code == 0
    outcome = run("lock", "--result", "model.ckpt.pt", *command)
    assert outcome.exit_code == 0, outcome.output
    return tmp_path / "zoo.lock"


def change(path, edit):
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_a_lock_holds_the_model_its_branch_the_data_and_the_seeds(locked):
    document = json.loads(locked.read_text())
    assert document["model"]["branch"] == "scan"
    assert len(document["model"]["sha256"]) == 64
    assert document["data"][0]["section"] == "training.training_data"
    assert document["data"][0]["frames"] > 0
    assert "training.seed" in document["seeds"]
    assert {"torch", "numpy", "python", "zoo"} <= document["made_with"].keys()
    assert document["command"][0] == "finetune"


@pytest.mark.slow
def test_a_run_is_reproduced_to_the_last_bit(locked, run):
    before = (locked.parent / "model.ckpt-1.pt").read_bytes()
    outcome = run("reproduce", locked, "--run")
    assert outcome.exit_code == 0, outcome.output
    assert "reproduced/model.ckpt.pt: the same to the last bit" in outcome.stdout
    assert (locked.parent / "model.ckpt-1.pt").read_bytes() == before


def test_comments_and_spacing_of_the_input_do_not_matter(locked, run):
    path = locked.parent / "input.json"
    document = json.loads(path.read_text())
    document["_comment"] = "another day"
    path.write_text(json.dumps(dict(reversed(document.items())), indent=3))
    assert run("reproduce", locked).exit_code == 0


def test_a_changed_key_is_named_with_both_values(locked, run):
    change(
        locked.parent / "input.json",
        lambda document: document["training"].update(numb_steps=2),
    )
    outcome = run("reproduce", locked, "--json")
    assert outcome.exit_code == 1
    (found,) = json.loads(outcome.stdout)["differences"]
    assert found == {
        "what": "input",
        "where": "training.numb_steps",
        "locked": "1",
        "found": "2",
        "weight": "error",
    }


def test_changed_data_are_noticed(locked, run):
    document = json.loads(locked.read_text())
    root = locked.parent / document["data"][0]["path"]
    if root.is_symlink():
        target = root.resolve()
        root.unlink()
        shutil.copytree(target, root)
    file = next(root.rglob("energy.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    outcome = run("reproduce", locked, "--json")
    assert outcome.exit_code == 1
    found = json.loads(outcome.stdout)["differences"]
    assert {item["what"] for item in found} == {"data"}


def test_another_model_is_an_error_and_another_version_a_warning(locked, run):
    change(
        locked,
        lambda document: (
            document["model"].update(sha256="0" * 64),
            document["made_with"].update(torch="1.0"),
        ),
    )
    outcome = run("reproduce", locked, "--json")
    assert outcome.exit_code == 1
    found = {item["what"]: item for item in json.loads(outcome.stdout)["differences"]}
    assert found["model"]["weight"] == "error"
    assert found["made_with"]["where"] == "torch"
    assert found["made_with"]["weight"] == "warning"


def test_a_run_without_a_seed_is_warned_about(locked, run):
    change(locked.parent / "input.json", lambda document: document["training"].pop("seed", None))
    command = json.loads(locked.read_text())["command"]
    outcome = run("lock", *command)
    assert outcome.exit_code == 0
    assert "training.seed is not set" in outcome.stderr


def test_a_model_is_locked_by_the_name_that_it_was_given(tmp_path, monkeypatch, run):
    monkeypatch.chdir(Path(__file__).parents[2])
    command = ["finetune", "examples/water/clusters.json", "-m", "DPA2_water_tiny"]
    more = ["--branch", "H2O_GFN1-xTB", "--set", "training.numb_steps=7"]
    outcome = run("lock", "-o", tmp_path / "zoo.lock", *command, *more)
    assert outcome.exit_code == 0, outcome.output
    document = json.loads((tmp_path / "zoo.lock").read_text())
    assert document["model"]["reference"] == "DPA2_water_tiny"
    assert document["input"]["content"]["training"]["numb_steps"] == 7
    assert run("reproduce", tmp_path / "zoo.lock").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lock"], "zoo lock train"),
        (["lock", "freeze", "x.pt"], "zoo lock train"),
        (["lock", "train", "input.json", "--nonsense"], "nonsense"),
        (["reproduce", "absent.lock"], "cannot be read"),
        (["reproduce", "input.json"], "no lock file"),
    ],
)
def test_what_cannot_be_locked_is_said(words, said, locked, run):
    outcome = run(*words)
    assert outcome.exit_code != 0
    assert said in outcome.output + str(outcome.exception)
