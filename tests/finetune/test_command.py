import json

import pytest
from typer.testing import CliRunner

from cli.main import app
from dpa2.formats.checkpoint import read_checkpoint
from tests.finetune.cases import MODEL


@pytest.fixture
def run():
    def invoke(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    return invoke


def test_finetune_reports_where_it_started(case_folder, run):
    case_folder("copied", numb_steps=1)
    outcome = run("finetune", "input.json", "--model", MODEL, "--branch", "scan", "--json")
    assert outcome.exit_code == 0, outcome.output
    (found,) = json.loads(outcome.stdout)["provenance"]
    assert found["source_branch"] == "scan"
    assert found["energy_bias"]["elements"]["H"]["shift"] == pytest.approx(-1.55335927, abs=1e-8)
    assert "Start of Default: all of model.pt, branch scan" in outcome.stderr


def test_deepmd_kits_spelling_gives_the_same_file(case_folder, run, tmp_path):
    case_folder("copied", numb_steps=1)
    ours = run("finetune", "input.json", "-m", MODEL, "--head", "scan", "-q")
    words = ["--finetune", MODEL, "--model-branch", "scan", "--output-dir", "theirs", "-q"]
    theirs = run("train", "input.json", *words)
    assert (ours.exit_code, theirs.exit_code) == (0, 0)
    kept = (tmp_path / "model.ckpt-1.pt").read_bytes()
    assert kept == (tmp_path / "theirs" / "model.ckpt-1.pt").read_bytes()


def test_a_missing_branch_is_a_diagnostic(case_folder, run, tmp_path):
    case_folder("copied")
    outcome = run("finetune", "input.json", "--model", MODEL)
    assert outcome.exit_code == 1
    assert "ZOO612" in outcome.stderr
    assert "`pbe`, `scan`, `metal`" in outcome.stderr
    assert not (tmp_path / "out.json").exists()


def test_the_normalised_input_of_a_fine_tuning_restarts_it(case_folder, run, tmp_path):
    document = case_folder("copied", numb_steps=1)
    document["model"] = {"type_map": ["H", "O"], "descriptor": {}, "fitting_net": {}}
    (tmp_path / "input.json").write_text(json.dumps(document))
    words = ["finetune", "input.json", "--model", MODEL, "--branch", "pbe"]
    assert run(*words, "--use-pretrain-script", "-q").exit_code == 0
    more = ["--set", "training.numb_steps=2", "--restart", "model.ckpt-1.pt", "-q"]
    outcome = run("train", "out.json", *more)
    assert outcome.exit_code == 0, outcome.output
    assert read_checkpoint(tmp_path / "model.ckpt-2.pt").step == 1


def test_bias_prints_the_shift_of_every_element(case_folder, run, tmp_path):
    case_folder("copied")
    words = ["bias", MODEL, "--branch", "scan", "--data", "data", "-o", "out.pt"]
    outcome = run(*words)
    assert outcome.exit_code == 0, outcome.output
    assert "-0.77667964" in outcome.stdout
    found = json.loads(run(*words, "--mode", "set", "--json").stdout)
    assert found["energy_bias"]["elements"]["O"]["after"] == pytest.approx(-0.93057703, abs=1e-8)
    assert read_checkpoint(tmp_path / "out.pt").branches == ["pbe", "scan", "metal"]
