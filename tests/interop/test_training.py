"""The same training run here and in deepmd-kit 3.2.0, side by side."""

import json
import shutil

import pytest
import torch

import dpa2
from dpa2.io.checkpoint import read_checkpoint

pytestmark = pytest.mark.interop

# Measured: 2e-16 after ten steps.
TOLERANCE = 1e-9


@pytest.mark.parametrize("steps", [1, 10])
def test_a_run_from_random_weights_gives_the_same_weights(steps, golden, deepmd, tmp_path):
    config = json.loads((golden / "training" / "adam" / "input.json").read_text())
    config["training"]["numb_steps"] = steps
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    shutil.copytree(golden / "training" / "data", tmp_path / "theirs" / "data")
    (tmp_path / "theirs" / "input.json").write_text(json.dumps(config))
    command = ["--pt", "train", "input.json", "--skip-neighbor-stat"]
    deepmd.call("dp", *command, cwd=tmp_path / "theirs")
    config["training"]["training_data"]["systems"] = [str(tmp_path / "theirs" / "data" / "one")]
    dpa2.train(config, output_dir=tmp_path / "ours", device="cpu", progress=False)

    name = f"model.ckpt-{steps}.pt"
    ours = read_checkpoint(tmp_path / "ours" / name)
    theirs = read_checkpoint(tmp_path / "theirs" / name)
    assert set(ours.tensors) == set(theirs.tensors)
    for key, tensor in theirs.tensors.items():
        torch.testing.assert_close(ours.tensors[key], tensor, rtol=0, atol=TOLERANCE, msg=key)
    curves = [(tmp_path / folder / "lcurve.out").read_text() for folder in ("ours", "theirs")]
    assert curves[0] == curves[1]
