"""`zoo branches`, `zoo extract`, `zoo recommend`, and --head, from the outside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.base.errors import CheckpointError
from schemas.checkpoint.header import read_header
from tests.commands import zoo

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "multitask" / "model.pt"
FIVE = GOLDEN / "training" / "data" / "five"


@pytest.fixture
def run():
    return zoo


def test_branches_are_a_table(run):
    text = run("branches", MODEL).stdout
    assert "3 branches, 2 descriptors, 2,187 parameters" in text
    assert "pbe (water, H2O-PBE)" in text
    assert "dpa2 of pbe" in text
    assert "ener 5-5-5" in text


def test_branches_as_json(run):
    document = json.loads(run("branches", MODEL, "--json").stdout)
    assert [branch["name"] for branch in document["branches"]] == ["pbe", "scan", "metal"]
    assert document["branches"][0]["shared_with"] == ["scan"]
    assert document["num_parameters"] == 2187
    assert document["steps"] == 20


def test_branches_of_a_single_task_model(run):
    assert "single-task model" in run("branches", GOLDEN / "small" / "model.pt").stdout


def test_extract_replaces_a_file_only_when_told(run, tmp_path):
    target = tmp_path / "single.pt"
    target.write_text("precious")
    with pytest.raises(CheckpointError, match="is there already") as error:
        run("extract", MODEL, "--branch", "scan", "-o", target)
    assert "--force" in error.value.hint
    assert target.read_text() == "precious"
    with pytest.raises(CheckpointError, match="no branch"):
        run("extract", MODEL, "--branch", "ice", "-o", target, "--force")
    assert target.read_text() == "precious"
    run("extract", MODEL.with_suffix(""), "--branch", "scan", "-o", target, "--force")
    assert list(read_header(target).branches) == ["Default"]
    with pytest.raises(CheckpointError, match="is a folder"):
        run("extract", MODEL, "--branch", "scan", "-o", tmp_path, "--force")
    with pytest.raises(CheckpointError, match="does not exist"):
        run("extract", tmp_path / "none.pt", "-o", tmp_path / "new.pt")


@pytest.mark.parametrize("command", ["branches", "extract"])
def test_a_file_is_looked_into_and_cut_without_torch(command, tmp_path):
    words = ["extract", str(MODEL), "--head", "scan", "-o", str(tmp_path / "scan.pt")]
    words = words if command == "extract" else ["branches", str(MODEL)]
    unwanted = {"torch"} if command == "extract" else {"torch", "numpy"}
    program = (
        "import sys; from cli.main import app; "
        f"app({words!r}, standalone_mode=False); "
        f"assert not {unwanted!r} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_extract_says_what_it_wrote(run, tmp_path):
    output = tmp_path / "single.pt"
    document = json.loads(run("extract", MODEL, "--head", "water", "-o", output, "--json").stdout)
    assert document["branch"] == "pbe"
    assert document["num_bytes"] == output.stat().st_size
    with pytest.raises(CheckpointError, match="is there already"):
        run("extract", MODEL, "--branch", "pbe", "-o", output)
    assert "branch scan" in run("extract", MODEL, "--head", "scan", "-o", output, "-f").stdout


def test_recommend_ranks_and_names_the_next_command(run, tmp_path):
    text = run("recommend", FIVE, "-m", MODEL, "--plot", tmp_path / "a.svg").stdout
    assert "5 frames of O H: energies of 5, forces of 4" in text
    assert f"start from pbe: zoo finetune input.json -m {MODEL} --branch pbe" in text
    assert (tmp_path / "a.svg").exists()


def test_recommend_as_json(run):
    result = run("recommend", FIVE, "-m", MODEL, "--json", "-n", "3", "--all-forces")
    document = json.loads(result.stdout)
    assert document["recommended"] == document["branches"][0]["branch"] == "pbe"
    assert document["num_frames"] == document["num_force_frames"] == 3
    assert set(document["branches"][0]["energy_shift"]) == {"O", "H"}


@pytest.mark.parametrize("option", ["--branch", "--head"])
def test_a_head_is_chosen_wherever_a_model_is_taken(option, run, tmp_path):
    frozen = run("freeze", "-c", MODEL, option, "scan", "-o", tmp_path / "scan.pth", "--json")
    assert json.loads(frozen.stdout)["branch"] == "scan"
    expected = json.loads(run("test", "-m", tmp_path / "scan.pth", "-s", FIVE, "--json").stdout)
    tested = json.loads(run("test", "-m", MODEL, option, "scan", "-s", FIVE, "--json").stdout)
    one, other = (d["total"]["errors"]["force"]["rmse"] for d in (tested, expected))
    assert one == pytest.approx(other, abs=1e-12)
    output = tmp_path / "out.xyz"
    run("predict", FIVE, "-m", MODEL, option, "scan", "-o", output, "-q")
    assert output.exists()


@pytest.mark.parametrize("command", ["freeze", "test", "predict"])
def test_a_wrong_or_missing_head_lists_the_heads(command, run, tmp_path):
    model = ("-c" if command == "freeze" else "-m", MODEL)
    rest = {"freeze": (), "test": ("-s", FIVE), "predict": (FIVE,)}[command]
    output = () if command == "test" else ("-o", tmp_path / "out")
    for head, hint in (
        ((), "choose one with --branch"),
        (("--head", "scn"), "did you mean `scan`"),
    ):
        with pytest.raises(CheckpointError) as error:
            run(command, *model, *rest, *output, *head)
        assert hint in error.value.hint
        assert "pbe, scan, metal" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_frozen_model_has_no_heads(run, tmp_path):
    frozen = tmp_path / "scan.pth"
    run("freeze", "-c", MODEL, "--head", "scan", "-o", frozen)
    with pytest.raises(CheckpointError, match="has no branches"):
        run("test", "-m", frozen, "--head", "scan", "-s", FIVE)
    with pytest.raises(CheckpointError, match="frozen") as error:
        run("branches", frozen)
    assert "holds one branch" in error.value.hint
