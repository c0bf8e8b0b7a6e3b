"""A branch that `zoo extract` wrote is a single-task checkpoint of deepmd-kit's."""

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.checkpoint_writer import extract_branch

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("branch", ["pbe", "metal"])
def test_deepmd_kit_evaluates_and_freezes_an_extracted_branch(
    branch, deepmd, golden: Path, tmp_path
):
    single = extract_branch(golden / "multitask" / "model.pt", branch, tmp_path / "single.pt").path
    frozen = tmp_path / "frozen.pth"
    deepmd.call("dp", "--pt", "freeze", "-c", single, "-o", frozen)
    five = golden / "training" / "data" / "five"
    arrays = {name: np.load(five / "set.000" / f"{name}.npy") for name in ("coord", "box")}
    kinds = np.loadtxt(five / "type.raw", dtype=np.int64)
    # The branch `metal` counts hydrogen first.
    atype = 1 - kinds if branch == "metal" else kinds
    np.savez(tmp_path / "five.npz", atype=atype, **arrays)
    expected = np.load(golden / "multitask" / "heads.npz")
    for model in (single, frozen):
        found = deepmd.run("evaluate_with_deepmd.py", model, tmp_path / "five.npz")
        for name in ("energy", "force", "virial"):
            want = expected[f"{branch}.{name}"]
            got = np.reshape(found[name], want.shape)
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("option", ["--init-model", "--finetune"])
def test_deepmd_kit_trains_on_from_an_extracted_branch(option, deepmd, golden: Path, tmp_path):
    single = extract_branch(golden / "multitask" / "model.pt", "pbe", tmp_path / "single.pt").path
    document = json.loads((golden / "training" / "statistics" / "input.json").read_text())
    five = str(golden / "training" / "data" / "five")
    document["training"]["training_data"]["systems"] = [five]
    (tmp_path / "input.json").write_text(json.dumps(document))
    command = ("dp", "--pt", "train", "input.json", "--skip-neighbor-stat", option, single)
    deepmd.call(*command, cwd=tmp_path)
    assert (tmp_path / "model.ckpt-1.pt").exists()
