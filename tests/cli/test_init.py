"""`zoo init`: what it writes is valid and fits the data."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from schemas.base.errors import ZooError
from schemas.check.input_file import check_file
from schemas.checkpoint.header import read_header
from schemas.input.model import parse_model
from schemas.input.root import normalized
from schemas.input.start import Start
from tests.commands import outcome
from tests.containers import write_npy

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def run(workspace):
    return partial(outcome, "init")


@pytest.fixture
def made(run):
    """Runs the command and returns the input that it wrote; there must be no error in it."""

    def make(*arguments, start=None):
        result = run(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        report = check_file("input.json", start=start)
        errors = [item.message for item in report.diagnostics if item.severity == "error"]
        assert errors == []
        return json.loads(Path("input.json").read_text())

    return make


def crystal(folder, repeat=3, **labels):
    """Write a simple cubic crystal with a lattice constant of 2.5 Å."""
    grid = np.stack(np.meshgrid(*[np.arange(repeat)] * 3), axis=-1).reshape(-1, 3)
    arrays = {
        "coord": grid.reshape(1, -1) * 2.5,
        "box": np.eye(3).reshape(1, 9) * 2.5 * repeat,
        "energy": np.array([[-10.0]]),
        "force": np.zeros((1, 3 * len(grid))),
        **labels,
    }
    write_npy(folder, arrays, [0] * len(grid), "Cu")


@pytest.mark.parametrize("preset", ["small", "medium", "large"])
def test_every_preset_makes_a_valid_input(made, preset):
    document = made("data/water", "--preset", preset, "--validation", "data/ice", "--steps", 5000)
    assert document["model"]["type_map"] == ["O", "H"]
    assert document["training"]["training_data"]["systems"] == ["data/water"]
    assert document["training"]["validation_data"]["systems"] == ["data/ice"]
    assert document["training"]["numb_steps"] == 5000


def test_numbers_of_neighbors_are_those_of_the_data_with_some_room(made, workspace):
    crystal(workspace / "copper")
    descriptor = made("copper")["model"]["descriptor"]
    # Within 6 Å (2.4 lattice constants) 56 neighbours, within 4 Å (1.6) 18; a tenth more.
    assert descriptor["repinit"]["nsel"] == 64
    assert descriptor["repformer"]["nsel"] == descriptor["repinit"]["three_body_sel"] == 20


def test_a_virial_is_learned_where_any_data_have_it(made, workspace):
    crystal(workspace / "copper", virial=np.zeros((1, 9)))
    assert made("copper")["loss"]["start_pref_v"] > 0
    assert made("copper", "data/water", "--force")["loss"]["start_pref_v"] > 0
    assert made("data/water", "--force")["loss"]["start_pref_v"] == 0


def test_data_without_forces_make_an_input_that_learns_energies(made, workspace):
    (workspace / "data/water/set.000/force.npy").unlink()
    loss = made("data/water")["loss"]
    assert (loss["start_pref_f"], loss["limit_pref_f"]) == (0, 0)


def test_elements_of_unlike_systems_are_joined_in_alphabetic_order(made, workspace):
    crystal(workspace / "copper")
    assert made("data/water", "copper")["model"]["type_map"] == ["Cu", "H", "O"]
    document = made("data/water", "copper", "--type-map", "O H Cu", "--force")
    assert document["model"]["type_map"] == ["O", "H", "Cu"]


def test_nameless_types_must_be_named(run, workspace):
    (workspace / "data/water/type_map.raw").unlink()
    result = run("data/water")
    assert isinstance(result.exception, ZooError)
    assert "--type-map" in (result.exception.hint or "")
    assert run("data/water", "--type-map", "O H").exit_code == 0


def test_a_fraction_sets_whole_systems_aside(made, workspace):
    for number in range(10):
        crystal(workspace / "many" / f"copper{number}")
    training = made("many", "--validation", 0.2)["training"]
    systems = training["training_data"]["systems"]
    aside = training["validation_data"]["systems"]
    assert (len(systems), len(aside)) == (8, 2)
    assert not set(systems) & set(aside)


def test_a_single_system_is_not_split(run):
    result = run("data/water", "--validation", 0.1)
    assert "zoo data convert" in result.exception.hint
    assert not Path("input.json").exists()


def test_a_folder_with_two_parts_is_taken_apart(made, workspace):
    (workspace / "data/water").rename(workspace / "data/train")
    (workspace / "data/ice").rename(workspace / "data/validation")
    training = made("data")["training"]
    assert training["training_data"]["systems"] == ["data/train"]
    assert training["validation_data"]["systems"] == ["data/validation"]


def test_branches_share_a_descriptor_for_the_elements_of_all(made, workspace):
    crystal(workspace / "copper")
    document = made("--multi-task", "water=data/water", "--multi-task", "metal=copper")
    model = document["model"]
    assert model["shared_dict"]["type_map"] == ["Cu", "H", "O"]
    assert set(model["model_dict"]) == set(document["loss_dict"]) == {"water", "metal"}
    assert document["training"]["model_prob"] == {"water": 1.0, "metal": 1.0}


def test_data_of_a_branch_may_be_in_several_places(made):
    pairs = ["water=data/water", "water=data/ice", "ice=data/ice"]
    document = made(*[item for pair in pairs for item in ("--multi-task", pair)])
    data = document["training"]["data_dict"]["water"]["training_data"]
    assert data["systems"] == ["data/water", "data/ice"]


@pytest.mark.parametrize("name", ["small", "medium", "case_embedding"])
def test_fine_tuning_takes_the_networks_of_the_checkpoint(made, workspace, name):
    file = GOLDEN / name / "model.pt"
    header = read_header(file)
    start = Start("--finetune", str(file), header.model_params)
    document = made("data/water", "--finetune", file, start=start)
    stored = parse_model(header.model_params)
    assert document["model"]["descriptor"] == normalized(stored.descriptor)
    assert document["model"]["type_map"] == list(stored.type_map)


def test_elements_that_the_checkpoint_does_not_know_are_refused(run, workspace):
    crystal(workspace / "copper")
    result = run("copper", "--finetune", GOLDEN / "small" / "model.pt")
    assert "Cu" in str(result.exception)
    assert not Path("input.json").exists()


def test_a_branch_of_a_checkpoint_without_branches_is_refused(run):
    result = run("data/water", "--finetune", GOLDEN / "small" / "model.pt", "--branch", "x")
    assert "no branch" in str(result.exception)


def test_an_existing_file_is_not_replaced(run, workspace):
    Path("input.json").write_text("mine")
    assert "there already" in str(run("data/water").exception)
    assert Path("input.json").read_text() == "mine"
    assert run("data/water", "--force").exit_code == 0
    assert Path("input.json").read_text() != "mine"


def test_nothing_is_written_for_data_that_do_not_exist(run, workspace):
    for arguments in (
        ["nowhere"],
        ["data/water", "--validation", "nowhere"],
        ["--multi-task", "water=nowhere"],
        ["data/water", "--finetune", "nowhere.pt"],
    ):
        assert isinstance(run(*arguments).exception, (ZooError, OSError))
    assert list(workspace.glob("*.json")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--multi-task", "water"],
        ["data/water", "--multi-task", "a=data/water"],
        ["--multi-task", "a=data/water", "--validation", "data/ice"],
        ["data/water", "--validation", "1.5"],
        ["data/water", "-o", "input.yaml"],
    ],
)
def test_misuse_is_a_usage_error(run, arguments):
    assert run(*arguments).exit_code == 2


def test_faulty_data_are_told_and_the_input_is_there_to_be_used_once_they_are_mended(
    run, workspace
):
    energy = workspace / "data/water/set.000/energy.npy"
    np.save(energy, np.full((3, 1), np.nan))
    result = run("data/water", "--json")
    assert result.exit_code == 1
    assert "ZOO432" in [item["code"] for item in json.loads(result.stdout)["diagnostics"]]
    assert Path("input.json").exists()
