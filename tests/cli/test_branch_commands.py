"""`zoo branches`, `zoo extract`, `zoo recommend`, and --head, from the outside."""

import json
from pathlib import Path

import pytest

from schemas.base.errors import CheckpointError
from schemas.checkpoint.header import read_header
from tests.commands import document, zoo

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "multitask" / "model.pt"
FIVE = GOLDEN / "training" / "data" / "five"


def test_branches_are_a_table():
    text = zoo("branches", MODEL).stdout
    assert "3 branches, 2 descriptors, 2,187 parameters" in text
    assert "pbe (water, H2O-PBE)" in text
    assert "dpa2 of pbe" in text
    assert "ener 5-5-5" in text


def test_branches_as_json():
    told = document("branches", MODEL)
    assert [branch["name"] for branch in told["branches"]] == ["pbe", "scan", "metal"]
    assert told["branches"][0]["shared_with"] == ["scan"]
    assert told["num_parameters"] == 2187
    assert told["steps"] == 20


def test_branches_of_a_single_task_model():
    assert "single-task model" in zoo("branches", GOLDEN / "small" / "model.pt").stdout


def test_extract_replaces_a_file_only_when_told(tmp_path):
    target = tmp_path / "single.pt"
    target.write_text("precious")
    with pytest.raises(CheckpointError, match="is there already") as error:
        zoo("extract", MODEL, "--branch", "scan", "-o", target)
    assert "--force" in error.value.hint
    assert target.read_text() == "precious"
    with pytest.raises(CheckpointError, match="no branch"):
        zoo("extract", MODEL, "--branch", "ice", "-o", target, "--force")
    assert target.read_text() == "precious"
    zoo("extract", MODEL.with_suffix(""), "--branch", "scan", "-o", target, "--force")
    assert list(read_header(target).branches) == ["Default"]
    with pytest.raises(CheckpointError, match="is a folder"):
        zoo("extract", MODEL, "--branch", "scan", "-o", tmp_path, "--force")
    with pytest.raises(CheckpointError, match="does not exist"):
        zoo("extract", tmp_path / "none.pt", "-o", tmp_path / "new.pt")


def test_extract_says_what_it_wrote(tmp_path):
    output = tmp_path / "single.pt"
    told = document("extract", MODEL, "--head", "water", "-o", output)
    assert told["branch"] == "pbe"
    assert told["num_bytes"] == output.stat().st_size
    with pytest.raises(CheckpointError, match="is there already"):
        zoo("extract", MODEL, "--branch", "pbe", "-o", output)
    assert "branch scan" in zoo("extract", MODEL, "--head", "scan", "-o", output, "-f").stdout


def test_recommend_ranks_and_names_the_next_command(tmp_path):
    text = zoo("recommend", FIVE, "-m", MODEL, "--plot", tmp_path / "a.svg").stdout
    assert "5 frames of O H: energies of 5, forces of 4" in text
    assert f"start from pbe: zoo finetune input.json -m {MODEL} --branch pbe" in text
    assert (tmp_path / "a.svg").exists()


def test_recommend_as_json():
    result = zoo("recommend", FIVE, "-m", MODEL, "--json", "-n", "3", "--all-forces")
    document = json.loads(result.stdout)
    assert document["recommended"] == document["branches"][0]["branch"] == "pbe"
    assert document["num_frames"] == document["num_force_frames"] == 3
    assert set(document["branches"][0]["energy_shift"]) == {"O", "H"}


@pytest.mark.parametrize("option", ["--branch", "--head"])
def test_a_head_is_chosen_wherever_a_model_is_taken(option, tmp_path):
    frozen = zoo("freeze", "-c", MODEL, option, "scan", "-o", tmp_path / "scan.pth", "--json")
    assert json.loads(frozen.stdout)["branch"] == "scan"
    expected = document("test", "-m", tmp_path / "scan.pth", "-s", FIVE)
    tested = document("test", "-m", MODEL, option, "scan", "-s", FIVE)
    one, other = (d["total"]["errors"]["force"]["rmse"] for d in (tested, expected))
    assert one == pytest.approx(other, abs=1e-12)
    output = tmp_path / "out.xyz"
    zoo("predict", FIVE, "-m", MODEL, option, "scan", "-o", output, "-q")
    assert output.exists()


@pytest.mark.parametrize("command", ["freeze", "test", "predict"])
def test_a_wrong_or_missing_head_lists_the_heads(command, tmp_path):
    model = ("-c" if command == "freeze" else "-m", MODEL)
    rest = {"freeze": (), "test": ("-s", FIVE), "predict": (FIVE,)}[command]
    output = () if command == "test" else ("-o", tmp_path / "out")
    for head, hint in (
        ((), "choose one with --branch"),
        (("--head", "scn"), "did you mean `scan`"),
    ):
        with pytest.raises(CheckpointError) as error:
            zoo(command, *model, *rest, *output, *head)
        assert hint in error.value.hint
        assert "pbe, scan, metal" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_frozen_model_has_no_heads(tmp_path):
    frozen = tmp_path / "scan.pth"
    zoo("freeze", "-c", MODEL, "--head", "scan", "-o", frozen)
    with pytest.raises(CheckpointError, match="has no branches"):
        zoo("test", "-m", frozen, "--head", "scan", "-s", FIVE)
    with pytest.raises(CheckpointError, match="frozen") as error:
        zoo("branches", frozen)
    assert "holds one branch" in error.value.hint
