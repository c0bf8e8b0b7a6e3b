"""Whole runs on tiny data: they learn, continue exactly, stop cleanly and explain failures."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.run import train
from schemas.base.errors import CheckpointError, ConfigError, DataError, TrainingError
from schemas.input.root import Input

SCRIPT = Path(__file__).with_name("run_training.py")
ROOT = Path(__file__).parents[2]


def quiet(config, **options):
    return train(config, progress=False, **options)


def rows(path="lcurve.out"):
    return np.loadtxt(path)


def test_ten_steps_lower_the_loss(tiny_input):
    tiny_input["training"].update(numb_steps=10, disp_freq=1)
    tiny_input["training"]["training_data"] = {"systems": ["a"], "batch_size": 5}
    prefactors = ("start_pref_e", "limit_pref_e", "start_pref_f", "limit_pref_f")
    tiny_input["loss"] = dict.fromkeys(prefactors, 1)
    result = quiet(tiny_input)
    loss = rows()[:, 2]
    assert loss[-1] < 0.9 * loss[0]
    assert result.steps_done == result.num_steps == 10
    assert result.stopped_by is None
    assert result.metrics["rmse"] == pytest.approx(loss[-1], rel=1e-2)


def test_a_resumed_run_equals_the_undisturbed_one_byte_for_byte(tiny_input):
    tiny_input["training"].update(disp_avg=True, numb_steps=9, save_freq=3)
    quiet(tiny_input, output_dir="whole")
    quiet(tiny_input, output_dir="parts")
    # Whatever an interrupted run has written after its last checkpoint must not matter.
    for path in Path("parts").glob("*-[69].pt"):
        path.unlink()
    quiet(tiny_input, restart="parts/model.ckpt-3.pt", output_dir="parts")
    for name in ("model.ckpt-9.pt", "model_ema.ckpt-9.pt", "lcurve.out", "out.json"):
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes(), name


def start(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(SCRIPT), *arguments], cwd=folder, env=environment)


def wait_for(process, path):
    """Wait until `path` appears or the process ends."""
    while process.poll() is None and not path.exists():
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_a_run_ends_in_the_same_bytes(tiny_input, tmp_path):
    tiny_input["training"].update(numb_steps=12, save_freq=2)
    data = tiny_input["training"]
    for section in ("training_data", "validation_data"):
        data[section]["systems"] = [str(tmp_path / name) for name in data[section]["systems"]]
    (tmp_path / "in.json").write_text(json.dumps(tiny_input))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert start(whole, str(tmp_path / "in.json")).wait() == 0
    restart = []
    for step in (2, 8):
        process = start(parts, str(tmp_path / "in.json"), *restart)
        wait_for(process, parts / f"model.ckpt-{step}.pt")
        process.kill()
        assert process.wait() == -signal.SIGKILL
        restart = [max(parts.glob("model.ckpt-*.pt"), key=lambda p: int(p.stem[11:])).name]
    assert start(parts, str(tmp_path / "in.json"), *restart).wait() == 0
    for name in ("model.ckpt-12.pt", "lcurve.out"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(parts.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint(tiny_input, number, monkeypatch):
    tiny_input["training"].update(numb_steps=1000, disp_freq=1, save_freq=1000)
    sent = []

    def interrupt(_task, _learning_rate):
        if not sent:
            os.kill(os.getpid(), number)
            sent.append(number)
        return {}

    monkeypatch.setattr("dpa2.training.task.Task.validate", interrupt)
    result = quiet(tiny_input)
    assert result.stopped_by == number.name
    assert 1 <= result.steps_done <= 2
    assert read_checkpoint(result.checkpoint).step == result.steps_done - 1
    assert rows()[-1, 0] == result.steps_done


def test_the_optimizer_section_is_numbered_as_in_deepmd_kit(tiny_input):
    quiet(tiny_input)
    optimizer = torch.load("model.ckpt-4.pt", weights_only=True)["optimizer"]
    (group,) = optimizer["param_groups"]
    assert group["params"] == list(range(len(group["params"])))
    assert group["initial_lr"] == 5e-3
    # 4 and 5 are deepmd-kit's empty compress_info and compress_data of repinit (two layers).
    assert not {4, 5} & set(optimizer["state"])
    assert set(optimizer["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}


SMALLER = ("model.fitting_net.neuron=[4,4]",)
OTHER_DATA = ('training.training_data.systems=["a"]', "training.numb_steps=6")
REFUSED = [
    (CheckpointError, "holds weights only", {"restart": "model_ema.ckpt.pt"}),
    (
        CheckpointError,
        r"does not fit: model\.fitting_net\.neuron",
        {"restart": "model.ckpt.pt", "overrides": SMALLER},
    ),
    (DataError, "other training data", {"restart": "model.ckpt.pt", "overrides": OTHER_DATA}),
    (ConfigError, "exclude each other", {"restart": "a.pt", "init_model": "b.pt"}),
    (TrainingError, "device `nonsense`", {"device": "nonsense"}),
]


def test_what_cannot_be_started_from_is_refused(tiny_input):
    quiet(tiny_input)
    for error, message, options in REFUSED:
        with pytest.raises(error, match=message):
            quiet(tiny_input, **options)


def test_epochs_become_steps(tiny_input):
    del tiny_input["training"]["numb_steps"]
    tiny_input["training"]["numb_epoch"] = 1.5
    # a has 3 batches, b has 2: an epoch is ceil(max(3 / 0.6, 2 / 0.4)) = 5 steps.
    assert quiet(tiny_input).num_steps == 8


def test_a_nan_label_stops_with_system_frame_and_atom(tiny_input):
    path = Path("a/set.000/force.npy")
    force = np.load(path)
    force[3, 7] = math.nan
    np.save(path, force)
    with pytest.raises(DataError, match="frame 3, atom 2, y is nan"):
        quiet(tiny_input)


def test_a_loss_that_explodes_stops_and_saves_nothing_of_it(tiny_input):
    tiny_input["learning_rate"].update(start_lr=1e300, stop_lr=1e300)
    tiny_input["training"].update(enable_ema=False, gradient_max_norm=0.0)
    unwarned = Input.model_validate(tiny_input)  # the rules refuse such a rate
    with pytest.raises(TrainingError, match=r"not a number at step \d+"):
        quiet(unwarned)
    for path in Path().glob("model.ckpt-*.pt"):
        tensors = read_checkpoint(path).tensors.values()
        assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def test_a_run_of_which_nothing_is_trained_goes_through_its_steps(tiny_input):
    for section in ("descriptor", "fitting_net"):
        tiny_input["model"][section]["trainable"] = False
    result = quiet(tiny_input)
    assert result.steps_done == 4
    first, last = (read_checkpoint(f"model.ckpt-{step}.pt").tensors for step in (2, 4))
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_full_validation_keeps_the_best_checkpoints(tiny_input):
    tiny_input["validating"] = {
        "full_validation": True,
        "validation_freq": 2,
        "full_val_start": 0.0,
        "max_best_ckpt": 2,
        "validation_metric": "F:RMSE",
    }
    tiny_input["training"]["numb_steps"] = 6
    quiet(tiny_input)
    lines = [line.split() for line in Path("val.log").read_text().splitlines() if line[0] == " "]
    ranking = sorted((float(cells[4]), int(cells[0])) for cells in lines)
    kept = {path.name for path in Path().glob("best.ckpt-*")}
    assert [int(cells[0]) for cells in lines] == [2, 4, 6]
    assert kept == {f"best.ckpt-{step}.t-{i}.pt" for i, (_, step) in enumerate(ranking[:2], 1)}


def test_the_bias_can_be_fitted_again_after_training(tiny_input):
    quiet(tiny_input, output_dir="plain")
    again = ("training.change_bias_after_training=true",)
    quiet(tiny_input, output_dir="changed", overrides=again)
    plain = read_checkpoint("plain/model.ckpt.pt").tensors
    changed = read_checkpoint("changed/model.ckpt.pt").tensors
    different = {name for name in plain if not torch.equal(plain[name], changed[name])}
    prefix = "model.Default.atomic_model."
    assert different == {f"{prefix}out_bias", f"{prefix}out_std"}


@pytest.mark.slow
def test_tensorboard_gets_the_errors(tiny_input):
    quiet(tiny_input, overrides=("training.tensorboard=true", "training.numb_steps=2"))
    assert list(Path("log").glob("events*"))


def test_lines_are_shown_where_there_is_no_terminal(tiny_input, capfd):
    train(tiny_input)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Batch       2: trn: rmse = " in shown.err
    assert "Batch       2: val: rmse = " in shown.err
    assert "Saved model to model.ckpt-4.pt" in shown.err
    assert "\x1b" not in shown.err
