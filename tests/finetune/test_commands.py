"""`zoo finetune`, `zoo bias`, and runs that `zoo lock` writes down and `zoo reproduce` repeats."""

import json
import shutil
from pathlib import Path

import pytest

from dpa2.formats.checkpoint import read_checkpoint
from tests.commands import outcome
from tests.finetune.cases import MODEL

FINETUNE = ["finetune", "input.json", "--model", str(MODEL), "--branch", "scan"]
TRAINED = Path("model.ckpt-1.pt")


def test_finetune_reports_where_it_started(case_folder):
    case_folder("copied", numb_steps=1)
    done = outcome(*FINETUNE, "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["provenance"]
    assert found["source_branch"] == "scan"
    assert found["energy_bias"]["elements"]["H"]["shift"] == pytest.approx(-1.55335927, abs=1e-8)
    assert "Start of Default: all of model.pt, branch scan" in done.stderr


def test_deepmd_kits_spelling_gives_the_same_file(case_folder):
    case_folder("copied", numb_steps=1)
    ours = outcome("finetune", "input.json", "-m", MODEL, "--head", "scan", "-q")
    words = ["--finetune", MODEL, "--model-branch", "scan", "--output-dir", "theirs", "-q"]
    theirs = outcome("train", "input.json", *words)
    assert (ours.exit_code, theirs.exit_code) == (0, 0)
    assert TRAINED.read_bytes() == ("theirs" / TRAINED).read_bytes()


def test_without_a_branch_the_fitting_net_is_new_as_in_deepmd_kit(case_folder):
    case_folder("copied", numb_steps=1)
    done = outcome("finetune", "input.json", "--model", MODEL)
    assert done.exit_code == 0
    assert "ZOO612" in done.stderr
    assert "`pbe`, `scan`, `metal`" in done.stderr
    words = ["--branch", "RANDOM", "--output-dir", "chosen"]
    chosen = outcome("finetune", "input.json", "--model", MODEL, *words)
    assert chosen.exit_code == 0
    assert "ZOO612" not in chosen.stderr
    assert TRAINED.read_bytes() == ("chosen" / TRAINED).read_bytes()


def test_the_normalised_input_of_a_fine_tuning_restarts_it(case_folder):
    document = case_folder("copied", numb_steps=1)
    document["model"] = {"type_map": ["H", "O"], "descriptor": {}, "fitting_net": {}}
    Path("input.json").write_text(json.dumps(document))
    words = ["finetune", "input.json", "--model", MODEL, "--branch", "pbe"]
    assert outcome(*words, "--use-pretrain-script", "-q").exit_code == 0
    more = ["--set", "training.numb_steps=2", "--restart", TRAINED, "-q"]
    done = outcome("train", "out.json", *more)
    assert done.exit_code == 0, done.output
    assert read_checkpoint("model.ckpt-2.pt").step == 1


def test_bias_prints_the_shift_of_every_element(case_folder):
    case_folder("copied")
    words = ["bias", MODEL, "--branch", "scan", "--data", "data", "-o", "out.pt"]
    done = outcome(*words)
    assert done.exit_code == 0, done.output
    assert "-0.77667964" in done.stdout
    found = json.loads(outcome(*words, "--mode", "set", "--json").stdout)
    assert found["energy_bias"]["elements"]["O"]["after"] == pytest.approx(-0.93057703, abs=1e-8)
    assert read_checkpoint("out.pt").branches == ["pbe", "scan", "metal"]


@pytest.fixture
def locked(case_folder):
    """A fine-tuning that was run, and its lock file with the checkpoint in it."""
    case_folder("copied", numb_steps=1)
    assert outcome(*FINETUNE, "--quiet").exit_code == 0
    done = outcome("lock", "--result", "model.ckpt.pt", *FINETUNE, "--quiet")
    assert done.exit_code == 0, done.output
    return Path("zoo.lock")


def change(path, edit):
    document = json.loads(Path(path).read_text())
    edit(document)
    Path(path).write_text(json.dumps(document))


def differences(lock):
    """Return what `reproduce` refuses a lock for."""
    done = outcome("reproduce", lock, "--json")
    assert done.exit_code == 1
    return json.loads(done.stdout)["differences"]


def test_a_lock_holds_the_model_its_branch_the_data_and_the_seeds(locked):
    document = json.loads(locked.read_text())
    assert document["model"]["branch"] == "scan"
    assert len(document["model"]["sha256"]) == 64
    assert document["data"][0]["section"] == "training.training_data"
    assert document["data"][0]["frames"] > 0
    assert "training.seed" in document["seeds"]
    assert {"torch", "numpy", "python", "zoo"} <= document["made_with"].keys()
    assert document["command"][0] == "finetune"


def test_a_run_is_reproduced_to_the_last_bit(locked):
    before = TRAINED.read_bytes()
    done = outcome("reproduce", locked, "--run")
    assert done.exit_code == 0, done.output
    assert "reproduced/model.ckpt.pt: the same to the last bit" in done.stdout
    assert TRAINED.read_bytes() == before


def test_comments_and_spacing_of_the_input_do_not_matter(locked):
    document = json.loads(Path("input.json").read_text()) | {"_comment": "another day"}
    Path("input.json").write_text(json.dumps(dict(reversed(document.items())), indent=3))
    assert outcome("reproduce", locked).exit_code == 0


def test_what_is_not_as_it_was_is_named(locked):
    change("input.json", lambda document: document["training"].update(numb_steps=2))
    assert differences(locked) == [
        {
            "what": "input",
            "where": "training.numb_steps",
            "locked": "1",
            "found": "2",
            "weight": "error",
        }
    ]
    change("input.json", lambda document: document["training"].update(numb_steps=1))
    change(locked, lambda document: document["model"].update(sha256="0" * 64))
    change(locked, lambda document: document["made_with"].update(torch="1.0"))
    found = {(item["what"], item["weight"]) for item in differences(locked)}
    assert found == {("model", "error"), ("made_with", "warning")}


def test_changed_data_are_noticed(locked):
    root = Path(json.loads(locked.read_text())["data"][0]["path"])
    if root.is_symlink():
        target = root.resolve()
        root.unlink()
        shutil.copytree(target, root)
    file = next(root.rglob("energy.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert {item["what"] for item in differences(locked)} == {"data"}


def test_a_run_without_a_seed_is_warned_about(locked):
    change("input.json", lambda document: document["training"].pop("seed", None))
    done = outcome("lock", *json.loads(locked.read_text())["command"])
    assert done.exit_code == 0
    assert "training.seed is not set" in done.stderr


def test_a_model_is_locked_by_the_name_that_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    command = ["finetune", "examples/water/clusters.json", "-m", "DPA2_water_tiny"]
    more = ["--branch", "H2O_GFN1-xTB", "--set", "training.numb_steps=7"]
    done = outcome("lock", "-o", tmp_path / "zoo.lock", *command, *more)
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "zoo.lock").read_text())
    assert document["model"]["reference"] == "DPA2_water_tiny"
    assert document["input"]["content"]["training"]["numb_steps"] == 7
    assert outcome("reproduce", tmp_path / "zoo.lock").exit_code == 0


def test_what_cannot_be_locked_is_said(case_folder):
    case_folder("copied")
    for words, said in (
        (["lock"], "zoo lock train"),
        (["lock", "freeze", "x.pt"], "zoo lock train"),
        (["lock", "train", "input.json", "--nonsense"], "nonsense"),
        (["reproduce", "absent.lock"], "cannot be read"),
        (["reproduce", "input.json"], "no lock file"),
    ):
        done = outcome(*words)
        assert done.exit_code != 0, words
        assert said in done.output + str(done.exception), words
