"""Fine-tuning and new energies: each program takes up the other's multi-task checkpoint."""

import json
import shutil

import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.energy_bias import rebias
from dpa2.training.optimizer import Tuning
from tests.finetune.cases import CASES, MODEL, case_input, write_data

pytestmark = pytest.mark.interop

# Measured: 2.4e-10 in the last bias, whose gradient is rounding after the fit; 3e-12 elsewhere.
TOLERANCE = 1e-9


def largest_difference(ours, theirs):
    assert set(ours) == set(theirs)
    return max(float((ours[k] - t).abs().max()) for k, t in theirs.items() if t.numel())


@pytest.fixture
def multitask(golden, tmp_path, monkeypatch):
    """Return a multi-task checkpoint of ours."""
    shutil.copytree(golden / "training" / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    document = json.loads((golden / "multitask" / "input.json").read_text())
    document["training"]["numb_steps"] = 3
    return dpa2.train(document, output_dir="m", device="cpu", progress=False).checkpoint.resolve()


@pytest.mark.parametrize("name", ["random", "alias", "subset"])
def test_both_fine_tune_our_checkpoint_to_the_same_weights(name, deepmd, multitask, tmp_path):
    document, branch = case_input(name), CASES[name]["branch"]
    (tmp_path / "input.json").write_text(json.dumps(document))
    command = ["--pt", "train", "input.json", "--finetune", multitask]
    deepmd.call("dp", *command, "--model-branch", branch, cwd=tmp_path)
    result = dpa2.train(
        document, finetune=multitask, branch=branch, output_dir="o", device="cpu", progress=False
    )
    theirs = read_checkpoint(tmp_path / result.checkpoint.name)
    assert largest_difference(read_checkpoint(result.checkpoint).tensors, theirs.tensors) < (
        TOLERANCE
    )


@pytest.mark.parametrize("mode", ["change", "set"])
def test_bias_is_dp_change_bias(mode, deepmd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data("copied", tmp_path)
    shutil.copyfile(MODEL, tmp_path / "model.pt")
    command = ["--pt", "change-bias", "model.pt", "-s", "data", "-m", mode, "-o", "theirs.pt"]
    deepmd.call("dp", *command, "--model-branch", "scan", cwd=tmp_path)
    rebias("model.pt", ["data"], "ours.pt", branch="scan", mode=mode)
    ours, theirs = (read_checkpoint(f"{name}.pt").tensors for name in ("ours", "theirs"))
    assert largest_difference(ours, theirs) < TOLERANCE


def test_deepmd_kit_restarts_a_fine_tuning_with_frozen_layers(deepmd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data("copied", tmp_path)
    document = case_input("copied")
    tuning = Tuning(freeze_layers=1, lr_scale={"repformer": 0.1})
    result = dpa2.train(
        document, finetune=MODEL, branch="scan", tuning=tuning, device="cpu", progress=False
    )
    document["training"]["numb_steps"] = 6
    (tmp_path / "input.json").write_text(json.dumps(document))
    command = ["--pt", "train", "input.json", "--skip-neighbor-stat", "--restart"]
    deepmd.call("dp", *command, result.checkpoint, cwd=tmp_path)
    tensors = read_checkpoint(tmp_path / "model.ckpt-6.pt").tensors
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
