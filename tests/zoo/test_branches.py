"""What a checkpoint says about its branches, without its numbers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from schemas.checkpoint.header import read_header
from schemas.input.model import parse_model
from schemas.input.weights import parameter_counts
from zoo.branches import num_parameters, summarize

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


def test_copies_of_shared_numbers_count_as_shared(tmp_path):
    content = torch.load(MULTI_TASK, weights_only=True)
    state = content["model"]
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            state[name] = value.clone()
    torch.save(content, tmp_path / "copied.pt")
    copied = {branch.name: branch for branch in summarize(read_header(tmp_path / "copied.pt"))}
    assert copied["pbe"].shared_with == ["scan"]
    assert copied["metal"].shared_with == copied["metal"].partly_shared_with == []


def test_a_shared_type_embedding_is_a_part(tmp_path):
    content = torch.load(MULTI_TASK, weights_only=True)
    state = content["model"]
    for name, value in state.items():
        if name.startswith("model.scan.") and "type_embedding" not in name:
            state[name] = value + 1
    torch.save(content, tmp_path / "part.pt")
    found = {branch.name: branch for branch in summarize(read_header(tmp_path / "part.pt"))}
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


def test_torch_is_not_needed():
    program = (
        "import sys; from schemas.checkpoint.header import read_header; "
        "from zoo.branches import summarize; "
        f"summarize(read_header({str(MULTI_TASK)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
