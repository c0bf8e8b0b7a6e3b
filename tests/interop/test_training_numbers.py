"""Trainings on the data of the corpus here and in deepmd-kit 3.2.0: every tensor, side by side."""

import json
from pathlib import Path

import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from tests.strangers.test_training_numbers import SHUFFLED, training_input, write_system

pytestmark = pytest.mark.interop

# Measured after two steps: 4e-16 in float64, 0 in float32.
TOLERANCE = 1e-12
PARAMETERS = {"numb_fparam": 2, "default_fparam": [0.3, -1.5], "numb_aparam": 1}


@pytest.mark.parametrize(
    ("mixed", "fitting", "precisions"),
    [
        (False, PARAMETERS, ("double", "double")),
        (True, PARAMETERS, ("float64", "float64")),
        (False, {}, ("single", "single")),
        (False, PARAMETERS, ("float32", "float64")),
        (False, PARAMETERS, ("float64", "float32")),
    ],
)
def test_unsorted_atoms_and_default_parameters_train_alike(
    mixed, fitting, precisions, deepmd, tmp_path
):
    extra = {"aparam": 1} if fitting else {}
    write_system(tmp_path / "a", SHUFFLED, 1, 3, mixed=mixed, **extra)
    document = training_input(str(tmp_path / "a"), fitting=fitting)
    for section, precision in zip(("descriptor", "fitting_net"), precisions, strict=True):
        document["model"][section]["precision"] = precision
    Path(tmp_path, "input.json").write_text(json.dumps(document))
    deepmd.call("dp", "--pt", "train", "input.json", cwd=tmp_path)
    dpa2.train(document, output_dir=tmp_path / "ours", device="cpu", progress=False)
    theirs = read_checkpoint(tmp_path / "model.ckpt-2.pt").tensors
    ours = read_checkpoint(tmp_path / "ours" / "model.ckpt-2.pt").tensors
    assert set(ours) == set(theirs)
    tolerance = 1e-6 if {"single", "float32"} & set(precisions) else TOLERANCE
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, rtol=0, atol=tolerance, msg=key)
