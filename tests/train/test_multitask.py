import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.train_state import TaskSampler
from schemas.base.errors import CheckpointError, ConfigError
from tests.commands import outcome
from tests.train.multitask_cases import CASES, multitask_input, write_systems

RECORDED = json.loads((Path(__file__).parent / "data" / "multitask.json").read_text())


@pytest.fixture
def systems(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_systems(tmp_path)
    return tmp_path


def quiet(config, **options):
    return dpa2.train(config, progress=False, **options)


@pytest.fixture
def longer():
    """A run of a few real steps."""
    config = multitask_input("fitting")
    config["learning_rate"] = {"start_lr": 5e-3, "stop_lr": 1e-4, "decay_steps": 1}
    config["training"].update(numb_steps=9, save_freq=3, disp_freq=2, enable_ema=True)
    return config


@pytest.mark.parametrize("case", CASES)
def test_statistics_sharing_and_numbering_equal_those_of_deepmd_kit(case, systems):
    recorded = RECORDED[case]
    ours = read_checkpoint(quiet(multitask_input(case)).checkpoint)
    for key, expected in recorded["statistics"].items():
        found = ours.tensors[key]
        if found.ndim == 3 and "descriptor" in key:
            assert (found == found[:, :1]).all()
            found = found[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0, err_msg=key)
    storage: dict[int, list[str]] = {}
    for key, value in ours.tensors.items():
        if value.numel():
            storage.setdefault(value.untyped_storage().data_ptr(), []).append(key)
    assert sorted(keys for keys in storage.values() if len(keys) > 1) == recorded["shared"]
    assert len(ours.optimizer["param_groups"][0]["params"]) == recorded["num_parameters"]
    assert Path("lcurve.out").read_text().splitlines()[0] == recorded["header"]


def test_cases_are_numbered_by_sorted_names(systems):
    tensors = read_checkpoint(quiet(multitask_input("fitting")).checkpoint).tensors
    rows = [
        tensors[f"model.{name}.atomic_model.fitting_net.case_embd"].tolist()
        for name in ("first", "second")
    ]
    assert rows == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def test_a_step_of_one_branch_leaves_the_head_of_the_other(systems):
    config = multitask_input("descriptor")
    config["learning_rate"]["start_lr"] = 1e-2
    config["training"]["model_prob"] = {"second": 0.0, "first": 1.0}
    config["training"].update(numb_steps=2)
    before = read_checkpoint(quiet(multitask_input("descriptor")).checkpoint).tensors
    after = read_checkpoint(quiet(config, output_dir="after").checkpoint).tensors
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert any("first.atomic_model.fitting_net" in key for key in changed)
    assert any("second.atomic_model.descriptor" in key for key in changed)
    assert not any("second.atomic_model.fitting_net" in key for key in changed)


def test_branches_are_drawn_as_often_as_asked_and_a_state_goes_on():
    choice = TaskSampler({"a": 0.25, "b": 0.75}, seed=3)
    drawn = [choice.next() for _ in range(4000)]
    assert 0.22 < drawn.count("a") / 4000 < 0.28
    state = choice.state_dict()
    following = [choice.next() for _ in range(20)]
    other = TaskSampler({"a": 0.25, "b": 0.75}, seed=None)
    other.load_state_dict(state)
    assert [other.next() for _ in range(20)] == following


def test_epochs_of_each_branch_become_steps_and_probabilities(systems):
    config = multitask_input("descriptor")
    del config["training"]["model_prob"], config["training"]["numb_steps"]
    config["training"]["num_epoch_dict"] = {"second": 1, "first": 2}
    # `second`: systems of 3 and 2 batches, drawn 3 : 2, so 5 steps; `first`: 2 batches, twice
    assert quiet(config).num_steps == 9


def test_a_resumed_run_equals_the_undisturbed_one_byte_for_byte(systems, longer):
    quiet(longer, output_dir="whole")
    quiet(longer, output_dir="parts")
    for path in Path("parts").glob("*-[69].pt"):
        path.unlink()
    quiet(longer, restart="parts/model.ckpt-3.pt", output_dir="parts")
    for name in ("model.ckpt-9.pt", "model_ema.ckpt-9.pt", "lcurve.out", "out.json"):
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes(), name


def test_averaged_rows_have_all_branches(systems, longer):
    longer["training"].update(disp_avg=True, disp_freq=1)
    rows = quiet(longer).curve.read_text().splitlines()
    assert len(rows) == 2 + 9
    assert {len(row.split()) for row in rows[2:]} == {1 + 3 + 3 + 1}
    assert "nan" not in "".join(rows[2:])


def test_a_new_run_starts_from_the_weights_of_every_branch(systems, longer):
    first = quiet(longer, output_dir="first")
    longer["training"].update(numb_steps=1, save_freq=1)
    longer["learning_rate"] = {"start_lr": 1e-30, "stop_lr": 1e-31, "decay_steps": 1}
    second = quiet(longer, init_model=first.checkpoint, output_dir="second")
    old, new = (read_checkpoint(run.checkpoint).tensors for run in (first, second))
    for key in old:
        torch.testing.assert_close(new[key], old[key], rtol=0, atol=1e-12)


def test_a_checkpoint_without_a_branch_of_the_input_is_refused(systems, longer):
    first = quiet(longer, output_dir="first")
    for section in (longer["model"]["model_dict"], longer["loss_dict"]):
        section["third"] = section.pop("second")
    for section in ("data_dict", "model_prob"):
        longer["training"][section]["third"] = longer["training"][section].pop("second")
    with pytest.raises(CheckpointError, match="lacks third and has second"):
        quiet(longer, restart=first.checkpoint)


def test_automatic_neighbours_of_a_shared_descriptor_are_those_of_all_its_data(systems):
    config = multitask_input("descriptor")
    config["model"]["shared_dict"]["surroundings"]["repinit"]["nsel"] = "auto"
    params = read_checkpoint(quiet(config).checkpoint).model_params["model_dict"]
    sizes = {section["descriptor"]["repinit"]["nsel"] for section in params.values()}
    assert len(sizes) == 1


def test_full_validation_of_several_branches_is_refused(systems, longer):
    longer["validating"] = {"full_validation": True, "validation_freq": 2}
    with pytest.raises(ConfigError):
        quiet(longer)


def test_the_command_trains_freezes_and_tests_a_head(systems, longer):
    Path("input.json").write_text(json.dumps(longer))
    trained = outcome("train", "input.json", "--json")
    assert (trained.exit_code, json.loads(trained.stdout)["steps_done"]) == (0, 9)
    model = json.loads(trained.stdout)["checkpoint"]
    options = ["-c", model, "--head", "first", "-o", "first.pth", "--json"]
    assert json.loads(outcome("freeze", *options).stdout)["branch"] == "first"
    tested = [
        outcome("test", "-m", *source, "-s", "b", "--json")
        for source in ([model, "--head", "first"], ["first.pth"])
    ]
    errors = [json.loads(result.stdout)["total"]["errors"]["force"]["rmse"] for result in tested]
    assert errors[0] == pytest.approx(errors[1], rel=1e-9)
