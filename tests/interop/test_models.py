"""Models travel both ways between deepmd-kit 3.2.0 and us."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dpa2
from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from schemas.input.model import parse_model

pytestmark = pytest.mark.interop

CASES = ["medium", "every_update_res_avg", "davg_strip", "fparam_aparam", "triclinic_five_elements"]
QUANTITIES = ("energy", "force", "virial", "atom_energy")
TOLERANCE = 1e-9


def our_checkpoint(case: Path, target: Path) -> Path:
    """Load a case into our model and write it as our own checkpoint."""
    theirs = read_checkpoint(case / "model.pt")
    section, tensors = theirs.branch()
    model = build_model(parse_model(section))
    load_deepmd_state(model, tensors)
    state = {"Default": to_deepmd_state(model)}
    write_checkpoint(target, tensors=state, model_params=section, step=0, learning_rate=1e-3)
    return target


def our_prediction(model: Path, structure: Path) -> dict[str, np.ndarray]:
    """Evaluate a case's structure with our engine."""
    arrays = np.load(structure)
    extra = {key: arrays[key] for key in ("fparam", "aparam") if key in arrays}
    box = arrays.get("box")
    found = dpa2.load(model).predict(arrays["coord"], box, arrays["atype"], **extra)
    return {name: np.asarray(getattr(found, name)) for name in QUANTITIES}


def assert_agree(theirs: dict[str, list], ours: dict[str, np.ndarray]) -> None:
    for name in QUANTITIES:
        difference = np.ravel(theirs[name]) - ours[name].ravel()
        assert np.abs(difference).max() <= TOLERANCE, name


@pytest.mark.parametrize("name", CASES)
def test_deepmd_evaluates_our_checkpoint_as_we_do(name, golden, deepmd, tmp_path):
    ours = our_checkpoint(golden / name, tmp_path / "model.ckpt-1.pt")
    structure = golden / name / "expected.npz"
    theirs = deepmd.run("evaluate_with_deepmd.py", ours, structure)
    assert_agree(theirs, our_prediction(ours, structure))


@pytest.mark.parametrize("name", CASES)
def test_we_evaluate_their_checkpoint_as_deepmd_does(name, golden, deepmd):
    model, structure = golden / name / "model.pt", golden / name / "expected.npz"
    theirs = deepmd.run("evaluate_with_deepmd.py", model, structure)
    assert_agree(theirs, our_prediction(model, structure))


def test_dp_test_reports_the_forces_that_we_predict(golden, deepmd, tmp_path):
    ours = our_checkpoint(golden / "medium", tmp_path / "model.ckpt-1.pt")
    system = golden / "training" / "data" / "five"
    deepmd.call("dp", "--pt", "test", "-m", ours, "-s", system, "-d", "detail", cwd=tmp_path)
    force = np.loadtxt(tmp_path / "detail.f.out")[:, 3:]
    energy = np.loadtxt(tmp_path / "detail.e.out")[:, 1]
    coord, box = (np.load(system / "set.000" / f"{key}.npy") for key in ("coord", "box"))
    atype = np.loadtxt(system / "type.raw", dtype=int)
    found = dpa2.load(ours).predict(coord, box.reshape(-1, 3, 3), atype)
    assert np.abs(found.force.reshape(-1, 3) - force).max() <= TOLERANCE
    assert np.abs(found.energy - energy).max() <= TOLERANCE


def test_dp_freezes_and_shows_our_checkpoint(golden, deepmd, tmp_path):
    ours = our_checkpoint(golden / "medium", tmp_path / "model.ckpt-1.pt")
    deepmd.call("dp", "--pt", "freeze", "-c", ours, "-o", "frozen.pth", cwd=tmp_path)
    structure = golden / "medium" / "expected.npz"
    theirs = deepmd.run("evaluate_with_deepmd.py", tmp_path / "frozen.pth", structure)
    assert_agree(theirs, our_prediction(ours, structure))


def test_dp_restarts_a_run_of_ours(golden, deepmd, tmp_path):
    source = json.loads((golden / "training" / "adam" / "input.json").read_text())
    source["training"]["training_data"]["systems"] = [str(golden / "training" / "data" / "one")]
    source["training"]["numb_steps"] = 3
    dpa2.train(source, output_dir=tmp_path, device="cpu", progress=False)
    source["training"]["numb_steps"] = 5
    (tmp_path / "longer.json").write_text(json.dumps(source))
    command = ["--pt", "train", "longer.json", "--skip-neighbor-stat"]
    deepmd.call("dp", *command, "--restart", "model.ckpt-3.pt", cwd=tmp_path)
    assert (tmp_path / "model.ckpt-5.pt").exists()


@pytest.mark.parametrize("name", CASES)
def test_deepmd_evaluates_our_frozen_model_as_we_do(name, golden, deepmd, tmp_path):
    model, structure = golden / name / "model.pt", golden / name / "expected.npz"
    frozen = tmp_path / "frozen.pth"
    command = [sys.executable, "-m", "cli.main", "freeze", "-c", str(model), "-o", str(frozen)]
    subprocess.run(command, check=True)
    theirs = deepmd.run("evaluate_with_deepmd.py", frozen, structure)
    assert_agree(theirs, our_prediction(model, structure))
