"""A branch is found by its name, an alias, or either in another case; else the message helps."""

from pathlib import Path

import pytest

from schemas.base.errors import CheckpointError
from schemas.checkpoint.branch_names import resolve_branch

FILE = Path("model.pt")
PARAMS = {
    "model_dict": {
        "Water": {"model_branch_alias": ["ice", "Steam"]},
        "water": {"model_branch_alias": ["liquid"]},
        "Metal": {"model_branch_alias": ["steam", "Cu"]},
    }
}


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("Water", "Water"),
        ("water", "water"),
        ("ICE", "Water"),
        ("steam", "Metal"),
        ("Steam", "Water"),
        ("metal", "Metal"),
        ("cu", "Metal"),
    ],
)
def test_the_exact_spelling_counts_before_another_case(asked, meant):
    assert resolve_branch(FILE, PARAMS, asked) == meant


@pytest.mark.parametrize("asked", ["WATER", "STEAM"])
def test_what_can_mean_two_branches_is_refused(asked):
    with pytest.raises(CheckpointError, match="more than one branch") as error:
        resolve_branch(FILE, PARAMS, asked)
    assert "Water" in error.value.hint


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ("Metall", "no branch `Metall`", "did you mean `Metal`? branches: Water, water, Metal"),
        ("liquit", "no branch", "did you mean `liquid` (an alias of `water`)?"),
        ("xyz", "no branch", "branches: Water, water, Metal"),
        (None, "3 branches and none was", "choose one with --branch: Water, water, Metal"),
    ],
)
def test_what_names_no_branch_lists_them_and_the_nearest(asked, message, hint):
    with pytest.raises(CheckpointError, match=message) as error:
        resolve_branch(FILE, PARAMS, asked)
    assert error.value.hint.startswith(hint)


def test_a_single_task_model_needs_no_name():
    assert resolve_branch(FILE, {"type_map": ["O"]}, None) == "Default"
    assert resolve_branch(FILE, {"type_map": ["O"]}, "Default") == "Default"
    with pytest.raises(CheckpointError, match="single-task model: it has no branch `x`"):
        resolve_branch(FILE, {"type_map": ["O"]}, "x")
