"""The same training run here and in deepmd-kit 3.2.0, side by side."""

import json
import shutil

import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from tests.train.multitask_cases import MODEL, write_system

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
    command = ["--pt", "train", "input.json"]
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


FORCES_ONLY = {"start_pref_e": 0, "limit_pref_e": 0, "start_pref_f": 1000, "limit_pref_f": 1}


@pytest.mark.parametrize("has_energies", [False, True])
def test_forces_alone_train_as_in_deepmd_kit(has_energies, deepmd, tmp_path):
    """Its energies of the elements are 0 then, also where the data have energies."""
    write_system(tmp_path / "data", 6, 5, seed=1)
    if not has_energies:
        (tmp_path / "data" / "set.000" / "energy.npy").unlink()
    config = {
        "model": MODEL,
        "learning_rate": {"start_lr": 1e-2, "stop_lr": 1e-3, "decay_steps": 1},
        "loss": FORCES_ONLY,
        "training": {
            "training_data": {"systems": [str(tmp_path / "data")], "batch_size": 5},
            "numb_steps": 8,
            "seed": 7,
        },
    }
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "input.json").write_text(json.dumps(config))
    deepmd.call("dp", "--pt", "train", "input.json", cwd=theirs)
    dpa2.train(config, output_dir=tmp_path / "ours", device="cpu", progress=False)
    expected = read_checkpoint(theirs / "model.ckpt-8.pt").tensors
    found = read_checkpoint(tmp_path / "ours" / "model.ckpt-8.pt").tensors
    assert not expected["model.Default.atomic_model.out_bias"].any()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=TOLERANCE, msg=key)


def test_steps_without_labels_are_those_of_deepmd_kit(deepmd, tmp_path):
    """Data without forces go on from a run on forces: Adam's moments decay, weights move on."""
    write_system(tmp_path / "forces", 6, 5, seed=1)
    write_system(tmp_path / "energies", 8, 4, seed=2)
    (tmp_path / "energies" / "set.000" / "force.npy").unlink()
    config = {
        "model": MODEL,
        "learning_rate": {"start_lr": 1e-2, "stop_lr": 1e-3, "decay_steps": 1},
        "loss": FORCES_ONLY,
        "training": {"numb_steps": 8, "save_freq": 4, "seed": 7},
    }
    for name in ("forces", "energies"):
        data = {"systems": [str(tmp_path / name)], "batch_size": 10}
        config["training"]["training_data"] = data
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    command = ["dp", "--pt", "train", "--skip-neighbor-stat"]
    deepmd.call(*command, "forces.json", cwd=tmp_path)
    shutil.copy(tmp_path / "model.ckpt-4.pt", tmp_path / "start.pt")
    deepmd.call(*command, "energies.json", "--restart", "start.pt", cwd=tmp_path)
    expected = read_checkpoint(tmp_path / "model.ckpt-8.pt").tensors
    content = torch.load(tmp_path / "start.pt", weights_only=True)
    content["model"]["_extra_state"]["train_infos"]["step"] -= 1  # it repeats its last step
    torch.save(content, tmp_path / "start.pt")
    config["training"]["training_data"]["systems"] = [
        str(tmp_path / n) for n in ("forces", "energies")
    ]
    config["training"]["training_data"]["sys_probs"] = [0.0, 1.0]
    dpa2.train(config, restart=tmp_path / "start.pt", output_dir=tmp_path / "ours", progress=False)
    found = read_checkpoint(tmp_path / "ours" / "model.ckpt-8.pt").tensors
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=TOLERANCE, msg=key)
