"""The same fine-tunings in deepmd-kit 3.2.0 and here, from the same checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from tests.finetune.cases import CASES, MODEL

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-11
_EMBEDDING = "model.Default.atomic_model.descriptor.type_embedding.embedding.embedding_net"
MATRIX = _EMBEDDING + ".layers.0.matrix"


def finetuned(name, document, **options):
    branch = CASES[name].get("branch")
    result = dpa2.train(
        document, finetune=MODEL, branch=branch, device="cpu", progress=False, **options
    )
    return read_checkpoint(result.checkpoint).tensors, result


def difference(ours, theirs):
    """Return the largest difference; statistics stand for all slots of neighbours."""
    return float((ours - torch.from_numpy(theirs)).abs().max())


def compared(expected):
    """Return the names of tensors; the reference did not search for the shortest distance."""
    return [key for key in expected.files if not key.endswith("min_nbor_dist")]


def test_training_goes_on_as_in_deepmd_kit(case_folder):
    """The energies were just fitted, so that the gradient of the last bias is rounding at first.

    Adam divides it by itself: steps of a millionth of the learning rate in any direction.
    """
    tensors, _ = finetuned("copied", case_folder("copied"))
    expected = np.load(DATA / "copied.npz")
    for key in compared(expected):
        is_last_bias = key.endswith("fitting_net.filter_layers.networks.0.layers.3.bias")
        limit = 1e-8 if is_last_bias else 1e-9
        assert difference(tensors[key], expected[key]) < limit, key


@pytest.mark.parametrize("name", ["random", "alias", "reordered", "subset", "branches"])
def test_tensors_are_those_of_deepmd_kit(name, case_folder):
    tensors, _ = finetuned(name, case_folder(name))
    expected = np.load(DATA / f"{name}.npz")
    found = {key: difference(tensors[key], expected[key]) for key in compared(expected)}
    assert max(found.values()) < TOLERANCE, max(found.items(), key=lambda item: item[1])


def test_elements_beyond_the_data_change_nothing_for_the_others(case_folder):
    tensors, _ = finetuned("superset", case_folder("superset"))
    expected = np.load(DATA / "superset.npz")
    known = [0, 2]  # H and O; deepmd-kit draws the embedding of Li without a seed
    for key in expected.files:
        ours, theirs = tensors[key], expected[key]
        if key == MATRIX:
            ours, theirs = ours[known], theirs[known]
        assert difference(ours, theirs) < TOLERANCE, key


@pytest.mark.parametrize("name", ["new_in_data", "new_random"])
def test_new_elements_get_statistics_of_the_data(name, case_folder):
    tensors, _ = finetuned(name, case_folder(name))
    expected = np.load(DATA / f"{name}.npz")
    for key in expected.files:
        if key == MATRIX:
            assert difference(tensors[key][[0, 3]], expected[key][[0, 3]]) < TOLERANCE
        elif name == "new_random" or not key.endswith(("out_bias", "out_std")):
            assert difference(tensors[key], expected[key]) < TOLERANCE, key
    bias = tensors["model.Default.atomic_model.out_bias"].reshape(-1)
    assert bias[2] == 0.0  # carbon, which is nowhere
    if name == "new_in_data":
        assert bias[0] == pytest.approx(-0.93057703, abs=1e-8)  # oxygen, not in these data


def test_new_embeddings_are_drawn_from_the_seed(case_folder):
    document = case_folder("superset")
    first, _ = finetuned("superset", document)
    second, _ = finetuned("superset", document, output_dir="second")
    assert torch.equal(first[MATRIX], second[MATRIX])
