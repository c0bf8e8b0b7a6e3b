"""`zoo validate` with a checkpoint at hand."""

import json
from pathlib import Path

import pytest
import torch

from schemas.check.input_file import check_file
from schemas.input.root import normalized


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
