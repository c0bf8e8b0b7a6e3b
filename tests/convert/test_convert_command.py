"""`zoo convert` from the outside: what it writes, what it refuses, what it says."""

import json
from functools import partial

import pytest
import torch

import dpa2
from dpa2.formats import checkpoint
from dpa2.formats.conversion import convert, freeze
from dpa2.formats.table import FORMATS, format_of, formats
from schemas.base.errors import CheckpointError, ConversionError
from tests.commands import outcome
from tests.convert.test_dictionary import HERE, assert_same_state
from tests.golden_cases import GOLDEN, assert_checkpoint_numbers, load_case

MEDIUM = GOLDEN / "medium" / "model.pt"
MULTI_TASK = GOLDEN / "multitask" / "model.pt"


@pytest.fixture(scope="module")
def zoo():
    """Return a function that runs the command."""
    return partial(outcome, "convert")


def test_json_says_what_was_written(zoo, tmp_path):
    done = zoo(MEDIUM, tmp_path / "x.dp", "--json")
    document = json.loads(done.stdout)
    assert document["ok"] is True
    assert (document["source_format"], document["format"]) == (".pt", ".dp")
    assert document["type_map"] == ["O", "H"]
    assert document["precision"] == "float64"
    assert document["num_bytes"] == (tmp_path / "x.dp").stat().st_size
    assert document["num_parameters"] == 1029
    assert document["left_behind"] == []


@pytest.mark.parametrize(
    "name", ["every_update_res_residual.dp", "strip_two_side.dp", "fparam_aparam.yaml"]
)
def test_portable_models_of_deepmd_are_evaluated_where_checkpoints_are(name):
    assert_checkpoint_numbers(HERE / "data" / name, name.split(".")[0])


def test_a_portable_model_can_be_frozen(tmp_path):
    found = freeze(HERE / "data" / "strip_two_side.dp", tmp_path / "x.pth")
    assert found.path == tmp_path / "x.pth"
    assert_checkpoint_numbers(found.path, "strip_two_side")


def test_a_portable_model_computes_in_the_precision_asked_for():
    potential = dpa2.load(HERE / "data" / "strip_two_side.dp", dtype="float32")
    assert_checkpoint_numbers(potential, "strip_two_side", ("energy",), 1e-4)
    with pytest.raises(AssertionError):
        assert_checkpoint_numbers(potential, "strip_two_side", ("energy",), 1e-10)


def test_dtype_changes_the_precision_of_weights_and_of_the_section(zoo, tmp_path):
    assert zoo(MEDIUM, tmp_path / "x.yaml", "--dtype", "float32").exit_code == 0
    found = format_of(tmp_path / "x.yaml").read(tmp_path / "x.yaml", None)
    assert found.model.descriptor.dtype == torch.float32
    assert found.model_params["descriptor"]["precision"] == "float32"
    assert found.model_params["fitting_net"]["precision"] == "float32"
    exact = load_case("medium").model
    state = found.model.state_dict()
    for name, tensor in exact.state_dict().items():
        assert any(torch.equal(state[name], one) for one in (tensor, tensor.float())), name


def test_a_checkpoint_keeps_the_step_it_was_trained_to(tmp_path):
    source = GOLDEN / "training" / "adam" / "model.pt"
    done = convert(source, tmp_path / "x.pt")
    assert done.left_behind == ["the state of the optimiser"]
    before, after = checkpoint.read(source, None), checkpoint.read(tmp_path / "x.pt", None)
    assert (after.step, after.learning_rate) == (before.step, before.learning_rate)
    assert after.left_behind == []
    assert_same_state(after.model, before.model)


def test_a_person_is_told_that_the_optimiser_stays_behind(zoo, tmp_path):
    done = zoo(GOLDEN / "training" / "adam" / "model.pt", tmp_path / "x.dp")
    assert "not in x.dp: the state of the optimiser" in done.output


def test_a_head_becomes_a_model_of_its_own(zoo, tmp_path):
    assert zoo(MULTI_TASK, tmp_path / "x.dp", "--head", "WATER").exit_code == 0
    (tmp_path / "y").mkdir()
    assert zoo(tmp_path / "x.dp", tmp_path / "y" / "x.pt").exit_code == 0
    assert_same_state(
        checkpoint.read(tmp_path / "y" / "x.pt", None).model,
        checkpoint.read(MULTI_TASK, "pbe").model,
    )
    done = convert(MULTI_TASK, tmp_path / "z.dp", branch="pbe")
    assert done.left_behind == ["the branches scan, metal"]


def test_a_file_that_is_there_is_replaced_only_by_force(zoo, tmp_path):
    (tmp_path / "x.dp").write_text("older")
    assert "there already" in zoo(MEDIUM, tmp_path / "x.dp").exception.message
    assert (tmp_path / "x.dp").read_text() == "older"
    assert zoo(MEDIUM, tmp_path / "x.dp", "--force").exit_code == 0


PORTABLE = HERE / "data" / "strip_two_side.dp"
REFUSED = [
    *(
        ([MULTI_TASK, f"x{suffix}"], "pbe, scan, metal")
        for suffix in (".pt", ".dp", ".safetensors")
    ),
    ([MULTI_TASK, "x.dp", "--head", "scn"], "did you mean `scan`?"),
    ([PORTABLE, "x.pt", "--head", "water"], "no branches to choose from"),
    (["same.pt", "same.pt", "--force"], "is the file to convert"),
    ([MEDIUM, "x.ptx"], "did you mean .pt"),
    ([MEDIUM, "x"], "formats: .pt"),
    ([MEDIUM, "x.safetensor"], ".safetensors?"),
    (["x.savedmodel", "x.pt"], "cannot be turned back into a model"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_cannot_be_done_is_said(zoo, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "same.pt").write_bytes(MEDIUM.read_bytes())
    (tmp_path / "x.savedmodel").mkdir()
    error = zoo(*words).exception
    assert isinstance(error, CheckpointError | ConversionError)
    assert said in f"{error.message} {error.hint}"
    assert words[1] == "same.pt" or not (tmp_path / words[1]).exists()


def test_a_missing_file_is_missing_in_every_format(tmp_path):
    for known in FORMATS:
        if known.reads:
            with pytest.raises(CheckpointError, match="does not exist"):
                known.read(tmp_path / f"absent{known.name}", None)


def test_every_format_names_functions_that_exist():
    for known in formats():
        for name, there in (("read", known.reads), ("write", known.writes), ("run", known.runs)):
            assert not there or callable(known.function(name))


def test_where_a_model_comes_from_is_kept_through_formats(tmp_path):
    convert(MEDIUM, tmp_path / "a.dp")
    convert(tmp_path / "a.dp", tmp_path / "b.yaml")
    convert(tmp_path / "b.yaml", tmp_path / "c.pt")
    history = checkpoint.read(tmp_path / "c.pt", None).history
    assert [step["source"] for step in history] == ["model.pt", "a.dp", "b.yaml"]
