"""A branch as a file of its own says what the branch says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpa2.data.systems import open_systems
from dpa2.evaluate.potential import load
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.conversion import freeze
from schemas.base.errors import CheckpointError
from schemas.checkpoint.header import read_header
from zoo.branches import summarize
from zoo.checkpoint_writer import extract_branch

GOLDEN = Path(__file__).parents[1] / "golden"
MULTI_TASK = GOLDEN / "multitask" / "model.pt"


@pytest.mark.parametrize("branch", ["pbe", "scan", "metal"])
def test_an_extracted_branch_predicts_what_the_branch_predicts(branch, tmp_path):
    extract_branch(MULTI_TASK, branch, tmp_path / "single.pt")
    alone, together = load(tmp_path / "single.pt"), load(MULTI_TASK, branch)
    (system,) = open_systems([GOLDEN / "training" / "data" / "five"], together.type_map)
    frames = system.frames(range(5))
    one, other = (p.predict(frames.coord, frames.box, frames.atom_types) for p in (alone, together))
    np.testing.assert_array_equal(one.energy, other.energy)
    np.testing.assert_array_equal(one.force, other.force)


def test_the_file_is_single_task_and_holds_weights_only(tmp_path):
    found = extract_branch(MULTI_TASK, "WATER", tmp_path / "single.pt")
    assert (found.branch, found.type_map) == ("pbe", ["O", "H"])
    content = torch.load(found.path, weights_only=True)
    assert list(content) == ["model", "optimizer"]
    assert content["optimizer"] == {}
    assert not read_header(found.path).has_optimizer


@pytest.mark.parametrize(
    ("case", "branch"),
    [("multitask", "pbe"), ("multitask", "metal")]
    + [(case, "Default") for case in ("davg", "bfloat16", "float32")],
)
def test_torch_reads_of_the_file_what_it_reads_of_the_branch(case, branch, tmp_path):
    source = read_checkpoint(GOLDEN / case / "model.pt")
    extract_branch(source.path, branch, tmp_path / "single.pt")
    found = read_checkpoint(tmp_path / "single.pt")
    section, tensors = found.branch()
    expected_section, expected = source.branch(branch)
    aliases = {"model_branch_alias": []} if "model_branch_alias" in expected_section else {}
    assert section == expected_section | aliases
    assert (found.step, found.learning_rate) == (source.step, source.learning_rate)
    assert list(tensors) == list(expected)
    for key, tensor in tensors.items():
        assert tensor.dtype == expected[key].dtype
        assert tensor.is_contiguous()
        assert torch.equal(tensor, expected[key])


def test_tensors_that_deepmd_kit_lists_twice_stay_one(tmp_path):
    extract_branch(MULTI_TASK, "scan", tmp_path / "single.pt")
    _, tensors = read_checkpoint(tmp_path / "single.pt").branch()
    twins = [key for key in tensors if "._networks." in key]
    assert twins
    for key in twins:
        twin = tensors[key.replace("._networks.", ".networks.")]
        assert tensors[key].data_ptr() == twin.data_ptr()


def test_the_file_holds_no_numbers_of_other_branches(tmp_path):
    extract_branch(MULTI_TASK, "scan", tmp_path / "single.pt")
    header = read_header(tmp_path / "single.pt")
    stored = sum(entry.num_bytes for entry in header.storages.values())
    places = {(t.storage, t.offset): t.num_bytes for t in header.tensors.values()}
    assert stored == sum(places.values())
    (summary,) = summarize(header)
    assert summary.num_parameters == 1040


def test_an_extracted_branch_can_be_frozen(tmp_path):
    extract_branch(MULTI_TASK, "scan", tmp_path / "single.pt")
    assert freeze(tmp_path / "single.pt", tmp_path / "single.pth").num_parameters == 1040


def test_a_wrong_or_missing_branch_leaves_nothing_behind(tmp_path):
    for branch in (None, "pbx"):
        with pytest.raises(CheckpointError) as error:
            extract_branch(MULTI_TASK, branch, tmp_path / "single.pt")
        assert "pbe, scan, metal" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_frozen_model_has_no_branches_to_extract(tmp_path):
    freeze(MULTI_TASK, tmp_path / "model.pth", "scan")
    with pytest.raises(CheckpointError, match="frozen model"):
        extract_branch(tmp_path / "model.pth", "scan", tmp_path / "single.pt")


def test_an_extracted_branch_has_no_state_to_continue_from(tmp_path):
    extract_branch(MULTI_TASK, "scan", tmp_path / "single.pt")
    checkpoint = read_checkpoint(tmp_path / "single.pt")
    assert checkpoint.optimizer is checkpoint.ema is checkpoint.state is None
