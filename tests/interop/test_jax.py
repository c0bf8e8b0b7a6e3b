"""JAX's formats run in deepmd-kit's Python, in LAMMPS and in our runtime, and all agree."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest

import dpa2
from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from dpa2.formats.conversion import convert
from dpa2.formats.structures import Evaluation
from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.interfaces.md import MdSettings
from dpa2.interfaces.simulation import write_simulation
from dpa2.model.build import build_model
from schemas.base.errors import CheckpointError
from schemas.input.model import parse_model
from tests.golden_cases import GOLDEN, load_case
from tests.interop.lammps import ROOT, assert_ours, run_lammps, water_box
from tests.jax.systems import assert_agree, evaluated

pytestmark = pytest.mark.interop

CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))


@pytest.mark.parametrize("name", [name for name in CASES if name != "bfloat16"])
def test_jax_computes_what_torch_does_for_every_option(name):
    case = load_case(name)
    tolerance = 1e-5 if name.startswith("float32") else 1e-10
    # Compiling atomic virials for every case would double the time.
    assert_agree(evaluated(case, atomic_virial=False), case.predict(), tolerance)


def exported(checkpoint: Path, target: Path) -> Path:
    convert(checkpoint, target)
    return target


EXPORTED = ["every_update_res_residual", "fparam_aparam", "truncated_pair_exclude", "cluster"]
SUFFIXES = [".hlo", ".savedmodel"]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Return a function from a golden case and a suffix to our export."""
    folder = tmp_path_factory.mktemp("exports")

    @functools.cache
    def path(name: str, suffix: str) -> Path:
        return exported(GOLDEN / name / "model.pt", folder / f"{name}{suffix}")

    return path


def own_evaluation(path: Path, name: str, *, atomic: bool = False) -> Evaluation:
    with np.load(GOLDEN / name / "expected.npz") as archive:
        names = ("coord", "box", "atype", "fparam", "aparam")
        return dpa2.load(path).predict(**{key: archive.get(key) for key in names}, atomic=atomic)


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any], num_atoms: int) -> None:
    for quantity in expected:
        difference = np.abs(np.ravel(found[quantity]) - np.ravel(expected[quantity])).max()
        assert difference <= (1e-10 * num_atoms if quantity == "energy" else 1e-9), quantity


def arrays_of(evaluation: Evaluation) -> dict[str, np.ndarray]:
    found = {field.name: getattr(evaluation, field.name) for field in fields(evaluation)}
    return {name: array for name, array in found.items() if array is not None}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", EXPORTED)
def test_deepmd_evaluates_our_export_as_we_do(name, suffix, export, golden, deepmd):
    case = load_case(name)
    theirs = deepmd.run(
        "evaluate_with_deepmd.py", export(name, suffix), golden / name / "expected.npz"
    )
    ours = case.predict()
    names = ("energy", "force", "virial", "atom_energy")
    expected = {quantity: getattr(ours, quantity).detach().numpy() for quantity in names}
    assert_same(theirs, expected, case.atom_types.shape[1])


# `truncated` has more neighbours than the model takes, on purpose
@pytest.mark.filterwarnings("ignore::dpa2.evaluate.potential.DroppedNeighborsWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", EXPORTED)
def test_our_runtime_evaluates_our_export_as_the_checkpoint(name, suffix, export, golden):
    atomic = name == "fparam_aparam"
    found = own_evaluation(export(name, suffix), name, atomic=atomic)
    expected = own_evaluation(golden / name / "model.pt", name, atomic=atomic)
    assert ("atom_virial" in arrays_of(found)) == atomic
    assert_same(arrays_of(found), arrays_of(expected), expected.force.shape[1])


@pytest.mark.filterwarnings("ignore::dpa2.evaluate.potential.DroppedNeighborsWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["fparam_aparam", "truncated_pair_exclude"])
def test_our_runtime_evaluates_deepmd_kits_files_as_it_does(name, suffix, golden, deepmd, tmp_path):
    path = tmp_path / f"model{suffix}"
    deepmd.call("dp", "convert-backend", golden / name / "model.pt", path)
    # Not the checkpoint's numbers: its JAX backend cuts and excludes pairs in another order.
    expected = deepmd.run("evaluate_with_deepmd.py", path, golden / name / "expected.npz")
    found = own_evaluation(path, name)
    assert_same(arrays_of(found), expected, found.force.shape[1])


def test_a_savedmodel_runs_in_commands_and_tensorflow_is_not_heard(trained, tmp_path):
    system = ROOT / "examples" / "water" / "gfn2" / "test"
    checkpoint, model = trained
    words = ["speed", checkpoint, model, "-s", system, "-r", "1", "-q", "--json"]
    script = "from cli.main import main; main()"
    environment = {key: x for key, x in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry["name"] for entry in json.loads(done.stdout)["models"]] == [
        checkpoint.name,
        model.name,
    ]


def test_a_simulation_gets_the_whole_folder(trained, tmp_path):
    _, model = trained
    atoms = ase.Atoms("OH2", [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    for engine in ("ase", "lammps"):
        written = write_simulation(atoms, model, tmp_path / engine, engine, MdSettings())
        copy = written.folder / written.files[-1]
        assert copy.name == "model.savedmodel"
        assert (copy / "saved_model.pb").read_bytes() == (model / "saved_model.pb").read_bytes()
        assert (copy / "variables").is_dir()


@pytest.mark.parametrize("kept", [0, 0.01, 0.5, 0.999])
def test_damaged_savedmodels_are_refused(kept, export, tmp_path):
    path = tmp_path / "model.savedmodel"
    shutil.copytree(export("fparam_aparam", ".savedmodel"), path)
    content = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=f"{path}"):
        own_evaluation(path, "fparam_aparam")


def test_savedmodels_of_something_else_are_refused(tmp_path):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path / "other.savedmodel"))
    with pytest.raises(CheckpointError, match="not of a deep potential"):
        dpa2.load(tmp_path / "other.savedmodel")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """The bundled water model in float64: our checkpoint, and its SavedModel."""
    folder = tmp_path_factory.mktemp("water")
    source = read_checkpoint(ROOT / "zoo" / "models" / "DPA2_water_tiny.pt")
    section, state = source.branch("H2O_GFN2-xTB")
    section["descriptor"]["precision"] = section["fitting_net"]["precision"] = "float64"
    model = build_model(parse_model(section))
    load_deepmd_state(model, state)
    checkpoint = folder / "model.ckpt-1.pt"
    tensors = {"Default": to_deepmd_state(model)}
    write_checkpoint(checkpoint, tensors=tensors, model_params=section, step=0, learning_rate=1e-3)
    return checkpoint, exported(checkpoint, folder / "model.savedmodel")


@pytest.mark.parametrize(
    ("repeats", "steps"), [((1, 1, 2), 4), ((2, 2, 4), 0)], ids=["192 atoms", "1536 atoms"]
)
def test_lammps_runs_our_savedmodel(repeats, steps, trained, deepmd, tmp_path):
    checkpoint, model = trained
    frames = run_lammps(deepmd, water_box(repeats), model, tmp_path, steps=steps)
    assert len(frames) == steps + 1
    assert_ours(frames[-1], checkpoint)
