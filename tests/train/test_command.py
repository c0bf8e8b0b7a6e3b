"""`zoo train`: exit codes, what goes to stdout and what to stderr."""

import json
from pathlib import Path

import pytest
import torch

from tests.commands import outcome


@pytest.fixture
def input_file(tiny_input):
    path = Path("input.json")
    path.write_text(json.dumps(tiny_input))
    return str(path)


def test_the_result_is_one_json_document_and_keys_can_be_set(input_file):
    result = outcome("train", input_file, "--json", "--set", "training.numb_steps=2")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["ok"] is True
    assert document["num_steps"] == document["steps_done"] == 2
    assert document["checkpoint"] == "model.ckpt-2.pt"
    assert set(document["errors"]) == {"rmse", "rmse_e", "rmse_f"}
    assert "Batch" in result.stderr
    assert json.loads(Path("out.json").read_text())["training"]["numb_steps"] == 2


def test_a_faulty_input_is_refused_before_anything_is_written(input_file):
    result = outcome("train", input_file, "--json", "--set", "training.numb_stepz=2")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["ok"] is False
    assert document["diagnostics"][0]["path"] == ["training", "numb_stepz"]
    assert "numb_stepz" in result.stderr
    assert not Path("out.json").exists()
    assert not Path("lcurve.out").exists()


def test_quiet_says_nothing_and_a_run_can_be_restarted(input_file):
    result = outcome("train", input_file, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    more = ("--restart", "model.ckpt.pt", "--set", "training.numb_steps=6")
    result = outcome("train", input_file, *more)
    assert result.exit_code == 0
    assert "4 of them done before" in result.stderr
    assert Path("model.ckpt-6.pt").exists()


@pytest.mark.parametrize("skips", [False, True])
def test_without_a_search_the_shortest_distance_is_unknown(input_file, skips):
    options = ["--skip-neighbor-stat"] * skips
    assert outcome("train", input_file, "--quiet", *options).exit_code == 0
    state = torch.load("model.ckpt.pt", weights_only=True)["model"]
    (known,) = (float(value) for name, value in state.items() if name.endswith("min_nbor_dist"))
    assert known == -1 if skips else 0 < known < 3
