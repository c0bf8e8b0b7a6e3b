"""`zoo validate`: formats, exit codes, what goes where, and checkpoints to start from."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from schemas.check.input_file import check_file
from schemas.input.root import normalized
from tests.commands import outcome

BAD = '{\n  "model": {"nsell": 120}\n}'


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text(BAD)
    return partial(outcome, "validate")


def test_the_full_format_shows_the_line_and_marks_the_fault(run):
    result = run("bad.json")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    start = lines.index("bad.json:2:13  error  ZOO102  unknown key `nsell`")
    assert lines[start + 1] == '   2 |   "model": {"nsell": 120}'
    assert lines[start + 2].startswith("     |             ^^^^^^^ ")
    assert lines[-1].startswith("bad.json: 7 errors")


def test_the_concise_format_has_a_line_for_each_fault(run):
    lines = run("bad.json", "--format", "concise").stdout.splitlines()
    assert len(lines) == 8


def test_the_github_format_annotates(run):
    lines = run("bad.json", "--format", "github").stdout.splitlines()
    start = "::error file=bad.json,line=2,col=13,endLine=2,endColumn=20,title=ZOO102::"
    assert any(line.startswith(start) for line in lines)


def test_json_is_the_only_thing_on_stdout(run):
    result = run("bad.json", "--json")
    document = json.loads(result.stdout)
    (file,) = document["files"]
    assert file["file"] == "bad.json"
    faults = {tuple(item["path"]): item for item in file["diagnostics"]}
    fault = faults["model", "nsell"]
    assert set(fault) == {"code", "severity", "message", "path", "span", "hint", "fix"}
    assert fault["span"] == {"line": 2, "col": 13, "end_line": 2, "end_col": 20}
    assert result.exit_code == 1


def test_standard_input_is_read(run):
    result = run("-", "--format", "concise", stdin=BAD)
    assert "<stdin>:2:13  error  ZOO102" in result.stdout


def test_a_missing_file_is_no_verdict_and_others_are_checked(run):
    result = run("nowhere.json", "bad.json", "--json")
    assert result.exit_code == 2
    first, second = json.loads(result.stdout)["files"]
    assert [item["code"] for item in first["diagnostics"]] == ["ZOO010"]
    assert len(second["diagnostics"]) == 7


def test_warnings_fail_only_when_strict(run, good):
    Path("file.h5").touch()
    good["training"]["training_data"] = {"systems": "file.h5#/a"}
    del good["training"]["validation_data"]
    Path("good.json").write_text(json.dumps(good))
    assert run("good.json", "--no-data").exit_code == 0
    assert run("good.json", "--no-data", "--strict").exit_code == 1
    assert run("good.json", "--no-data", "--set", "training.numb_steps=-1").exit_code == 1


@pytest.fixture
def checkpoint(workspace, good):
    """A checkpoint of the good input's model, as far as a header goes."""
    Path("input.json").write_text(json.dumps(good))
    section = normalized(check_file("input.json").config.model)
    state = {"_extra_state": {"model_params": section, "train_infos": {"lr": 1e-3, "step": 4}}}
    optimizer = {"state": {}, "param_groups": [{"params": []}]}
    torch.save({"model": state, "optimizer": optimizer}, "model.pt")
    return "model.pt"


@pytest.fixture
def found(zoo, checkpoint):
    """Exit code, and severity, code and path of every diagnostic."""

    def run(*arguments):
        result = zoo("validate", "input.json", "--json", "--no-data", *arguments)
        items = json.loads(result.stdout)["files"][0]["diagnostics"]
        return result.exit_code, [(x["severity"], x["code"], *x["path"]) for x in items]

    return run


def test_a_checkpoint_that_fits_is_good(found, checkpoint):
    assert found("--finetune", checkpoint) == (0, [("note", "ZOO604", "--finetune")])
    assert found("--restart", checkpoint) == (0, [])


def test_a_checkpoint_that_does_not_fit_is_an_error(found, checkpoint, good):
    good["model"]["descriptor"]["repinit"]["rcut"] = 6.5
    Path("input.json").write_text(json.dumps(good))
    code, items = found("--finetune", checkpoint)
    assert code == 1
    assert ("error", "ZOO602", "model", "descriptor", "repinit", "rcut") in items


def test_the_branch_has_deepmds_name_too(found, checkpoint):
    expected = (1, [("error", "ZOO611", "--branch")])
    assert found("--finetune", checkpoint, "--branch", "x") == expected
    assert found("--finetune", checkpoint, "--model-branch", "x") == expected


@pytest.mark.parametrize("content", [None, b"<html>404</html>", b""])
def test_a_file_that_is_no_checkpoint_is_an_error_at_its_option(found, content):
    if content is not None:
        Path("other.pt").write_bytes(content)
    assert found("--finetune", "other.pt") == (1, [("error", "ZOO621", "--finetune")])


def test_options_that_exclude_each_other_are_an_error(found, checkpoint):
    both = ("--finetune", checkpoint, "--restart", checkpoint)
    assert found(*both) == (1, [("error", "ZOO620", "--restart")])
    assert found("--branch", "x") == (0, [("warning", "ZOO620", "--branch")])


def test_the_pretrain_script_fills_an_empty_descriptor(found, checkpoint, good):
    good["model"]["descriptor"] = {}
    Path("input.json").write_text(json.dumps(good))
    assert found("--finetune", checkpoint)[0] == 1
    assert found("--finetune", checkpoint, "--use-pretrain-script")[0] == 0
