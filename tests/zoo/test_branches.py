"""What a checkpoint says about its branches, and a branch as a file of its own."""

import subprocess
import sys
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
from schemas.input.model import parse_model
from schemas.input.weights import parameter_counts
from zoo.branches import num_parameters, summarize
from zoo.checkpoint_writer import extract_branch

GOLDEN = Path(__file__).parents[1] / "golden"
MULTI_TASK = GOLDEN / "multitask" / "model.pt"


@pytest.fixture(scope="module")
def branches():
    return {branch.name: branch for branch in summarize(read_header(MULTI_TASK))}


def test_branches_are_described_in_the_order_of_the_file(branches):
    assert list(branches) == ["pbe", "scan", "metal"]
    assert branches["pbe"].aliases == ["water", "H2O-PBE"]
    assert branches["metal"].type_map == ["H", "O", "Cu"]
    assert sorted(branches["metal"].observed) == ["H", "O"]
    assert branches["scan"].neuron == [5, 5, 5]
    assert branches["scan"].fitting == "ener"
    assert branches["scan"].descriptor == "dpa2"


def test_shared_descriptors_are_told_from_own_ones(branches):
    assert branches["pbe"].shared_with == ["scan"]
    assert branches["scan"].shared_with == ["pbe"]
    assert branches["metal"].shared_with == []
    assert not any(branch.partly_shared_with for branch in branches.values())


def changed(path, change):
    """Save the tensors anew, each what `change` of its name and value says; return the branches."""
    content = torch.load(MULTI_TASK, weights_only=True)
    state = content["model"]
    state.update({k: change(k, v) for k, v in state.items() if isinstance(v, torch.Tensor)})
    torch.save(content, path)
    return {branch.name: branch for branch in summarize(read_header(path))}


def test_copies_of_shared_numbers_count_as_shared(tmp_path):
    copied = changed(tmp_path / "copied.pt", lambda _, value: value.clone())
    assert copied["pbe"].shared_with == ["scan"]
    assert copied["metal"].shared_with == copied["metal"].partly_shared_with == []


def test_a_shared_type_embedding_is_a_part(tmp_path):
    def differ(name, value):
        other = name.startswith("model.scan.") and "type_embedding" not in name
        return value + 1 if other else value

    found = changed(tmp_path / "part.pt", differ)
    assert found["pbe"].shared_with == []
    assert found["pbe"].partly_shared_with == ["scan"]


def test_parameters_are_those_of_the_model_section(branches):
    header = read_header(MULTI_TASK)
    counts = {
        name: parameter_counts(parse_model(section)) for name, section in header.branches.items()
    }
    assert {name: sum(parts.values()) for name, parts in counts.items()} == {
        name: branch.num_parameters for name, branch in branches.items()
    }
    own = [sum(counts[name].values()) for name in ("pbe", "metal")]
    assert num_parameters(header) == sum(own) + counts["scan"]["fitting net"]


@pytest.mark.parametrize("case", ["small", "medium", "layer_norm_frozen", "fparam_aparam"])
def test_a_single_task_file_has_one_branch(case):
    header = read_header(GOLDEN / case / "model.pt")
    (branch,) = summarize(header)
    assert branch.name == "Default"
    assert branch.observed is None
    counts = parameter_counts(parse_model(header.model_params))
    assert branch.num_parameters == num_parameters(header) == sum(counts.values())


def test_torch_is_not_needed(tmp_path):
    program = (
        "import sys; from pathlib import Path; import zoo.remote_branch; "
        "from schemas.checkpoint.header import read_header; from zoo.branches import summarize; "
        "from zoo.checkpoint_writer import extract_branch; source = Path(sys.argv[1]); "
        "summarize(read_header(source)); extract_branch(source, 'scan', Path(sys.argv[2])); "
        "assert 'torch' not in sys.modules"
    )
    paths = str(MULTI_TASK), str(tmp_path / "a.pt")
    subprocess.run([sys.executable, "-c", program, *paths], check=True, cwd=GOLDEN.parents[1])


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
    checkpoint = read_checkpoint(found.path)
    assert checkpoint.optimizer is checkpoint.ema is checkpoint.state is None


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
    assert freeze(tmp_path / "single.pt", tmp_path / "single.pth").num_parameters == 1040


def test_a_wrong_or_missing_branch_leaves_nothing_behind(tmp_path):
    for branch in (None, "pbx"):
        with pytest.raises(CheckpointError) as error:
            extract_branch(MULTI_TASK, branch, tmp_path / "single.pt")
        assert "pbe, scan, metal" in error.value.hint
    assert not list(tmp_path.iterdir())
