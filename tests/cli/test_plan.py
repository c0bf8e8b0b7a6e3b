"""`zoo plan`, against the parts of the engine that it foretells."""

import json
from functools import partial

import pytest

from dpa2.training.loss import EnergyLoss
from dpa2.training.plan import branch_plans, milestones, step_at_rate
from schemas.check.input_file import check_text
from schemas.input.optimization import EnergyLoss as LossConfig
from schemas.input.optimization import ExponentialDecay
from schemas.input.schedule import build_schedule
from tests.commands import outcome

SMALL = {
    "model.descriptor.repinit.neuron": [2, 4],
    "model.descriptor.repinit.axis_neuron": 2,
    "model.descriptor.repformer.nlayers": 1,
    "model.descriptor.repformer.g1_dim": 4,
    "model.descriptor.repformer.g2_dim": 4,
    "model.descriptor.repformer.update_g1_has_attn": False,
    "model.fitting_net.neuron": [4],
}


@pytest.fixture
def run(workspace):
    return partial(outcome, "plan")


@pytest.fixture
def written(workspace, example):
    """Writes a good input with changes; returns its name."""

    def write(base="single-task", **changes):
        (workspace / "input.json").write_text(example(base, changes))
        return "input.json"

    return write


def planned(run, name, *arguments):
    result = run(name, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_rates_and_weights_are_those_of_the_training_loop(example, workspace):
    config = check_text(example("single-task", {"learning_rate.warmup_steps": 500})).config
    schedule = build_schedule(config.learning_rate, 10000)
    loss = EnergyLoss(config.loss, config.learning_rate.start_lr)
    shown = milestones(schedule, {"x": config.loss}, config.learning_rate.last_lr)
    for item in shown:
        assert item.learning_rate == schedule.applied(item.step - 1)
        assert item.prefactors["x"]["force"] == loss.prefactor("f", item.learning_rate)
    assert [item.step for item in shown if "warm-up ends" in item.name] == [501]
    assert set(shown[0].prefactors["x"]) == {"energy", "force"}


@pytest.mark.parametrize("kind", ["exp", "cosine", "wsd"])
def test_the_step_that_reaches_a_rate_is_the_first_one(example, workspace, kind):
    document = json.loads(example("single-task", {}))
    document["learning_rate"] = {"type": kind, "start_lr": 1e-3, "stop_lr": 1e-6}
    config = check_text(json.dumps(document)).config
    schedule = build_schedule(config.learning_rate, 3000)
    values = [schedule.value(step) for step in range(3000)]
    first = next(step for step, value in enumerate(values) if value <= 1e-5)
    assert step_at_rate(schedule, 1e-5) == first + 1
    assert step_at_rate(schedule, 1e-9) is None


def test_a_plan_says_how_often_each_system_is_seen(run, written):
    name = written(**{"training.training_data": {"systems": ["data"], "batch_size": 2}})
    (branch,) = planned(run, name)["branches"]
    assert [item["name"] for item in branch["systems"]] == ["data/ice", "data/water"]
    assert [item["num_batches"] for item in branch["systems"]] == [2, 2]  # 3 frames, 2 at a time
    assert [item["epochs"] for item in branch["systems"]] == [2500, 2500]
    assert branch["steps_per_epoch"] == 4
    assert branch["epochs"] == 2500


def test_epochs_become_steps(run, written):
    name = written(**{"training.numb_steps": "<remove>", "training.numb_epoch": 1000})
    assert planned(run, name)["num_steps"] == 1000


def test_branches_that_share_a_descriptor_count_it_once(run, written):
    document = planned(run, written("multi-task"))
    parts = document["parameters"]["water"]
    fitting = parts["fitting net"]
    assert document["num_parameters"] == sum(parts.values()) + fitting
    (shared,) = (item for item in document["shared"] if item["component"] == "descriptor")
    assert shared["owner"] == "water"
    assert shared["parameters"] == {"salt": sum(parts.values()) - fitting}


def test_branches_are_drawn_as_model_prob_says(example, workspace):
    changes = {"training.model_prob": {"water": 1.0, "salt": 3.0}}
    config = check_text(example("multi-task", changes)).config
    num_steps, (water, salt) = branch_plans(config)
    assert (num_steps, water.steps, salt.steps) == (10000, 2500, 7500)


def test_epochs_of_branches_give_the_steps_and_the_shares(example, workspace):
    changes = {
        "training.num_epoch_dict": {"water": 100, "salt": 300},
        "training.numb_steps": "<remove>",
    }
    config = check_text(example("multi-task", changes)).config
    num_steps, (water, salt) = branch_plans(config)
    assert num_steps == 400
    assert (water.epochs, salt.epochs) == (100, 300)


def test_checkpoints_on_the_disk_are_parameters_and_two_moments(run, written):
    document = planned(run, written(**{"training.save_freq": 100, "training.max_ckpt_keep": 4}))
    assert document["disk"]["checkpoint"] == 24 * document["num_parameters"]
    assert document["disk"]["total"] == 4 * document["disk"]["checkpoint"]


def test_a_plan_says_whether_a_gpu_is_large_enough(run, written):
    name = written()
    assert planned(run, name, "--gpu-memory", "80")["gpu"]["fits"]
    assert not planned(run, name, "--gpu-memory", "0.1")["gpu"]["fits"]


def test_a_probe_runs_real_steps_and_leaves_nothing_behind(run, written, workspace):
    name = written(**SMALL)
    before = sorted(workspace.rglob("*"))
    probe = planned(run, name, "--probe", "--device", "cpu")["probe"]
    assert probe["seconds_per_step"] > 0
    assert probe["total_seconds"] == pytest.approx(10000 * probe["seconds_per_step"])
    assert probe["peak_bytes"] > 2**20
    assert sorted(workspace.rglob("*")) == before


def test_branches_are_probed_one_by_one(run, written):
    small = {
        path.replace("model.descriptor", "model.shared_dict.descriptor"): value
        for path, value in SMALL.items()
        if "fitting_net" not in path
    }
    small["training.model_prob"] = {"water": 3, "salt": 1}
    for branch in ("water", "salt"):
        small[f"model.model_dict.{branch}.fitting_net"] = {"neuron": [4], "dim_case_embd": 2}
    name = written("multi-task", **small)
    probe = planned(run, name, "--probe", "--device", "cpu")["probe"]
    seconds = probe["branches"]
    assert set(seconds) == {"water", "salt"}
    mean = 0.75 * seconds["water"] + 0.25 * seconds["salt"]
    assert probe["seconds_per_step"] == pytest.approx(mean)
    assert "time per step of salt" in run(name, "--probe", "--device", "cpu").stdout


def test_tables_for_a_person_name_every_part(run, written):
    shown = run(written("multi-task")).stdout
    for words in ("learning rate", "water: energy", "repformer", "shared ones counted once"):
        assert words in shown


def test_a_faulty_input_is_diagnosed_as_by_validate(run, written):
    result = run(written(**{"learning_rate.stop_lr": 1.0}), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["diagnostics"]
    errors = [item["path"][0] for item in found if item["severity"] == "error"]
    assert errors == ["learning_rate"]


def test_a_run_without_steps_has_no_milestones():
    config = LossConfig.model_validate({})
    rate = ExponentialDecay.model_validate({"start_lr": 1e-3, "stop_lr": 1e-8})
    assert milestones(build_schedule(rate, 0), {"x": config}, 1e-8) == []
