"""Multi-task models travel both ways between deepmd-kit 3.2.0 and us, on real water."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.conversion import freeze

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
WATER = ROOT / "examples" / "water"
NUM_FRAMES = 8
HEADS = ("gfn1", "gfn2")
QUANTITIES = ("energy", "force", "virial", "atom_energy")
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def water(tmp_path_factory) -> Path:
    """The first frames of the bundled water: few, so that statistics can be of all of them."""
    folder = tmp_path_factory.mktemp("water")
    for head in HEADS:
        source, target = WATER / head / "train", folder / head
        shutil.copytree(source, target)
        for path in (target / "set.000").iterdir():
            np.save(path, np.load(path)[:NUM_FRAMES])
    return folder


@pytest.fixture(scope="module")
def config(water) -> dict:
    """Two levels of theory of the bundled water, a few real steps of a small network."""
    section = json.loads((ROOT / "tests" / "golden" / "multitask" / "input.json").read_text())
    shared = section["model"]["shared_dict"]
    fitting = section["model"]["model_dict"]["pbe"]["fitting_net"]
    loss = section["loss_dict"]["pbe"]
    return {
        "model": {
            "shared_dict": shared,
            "model_dict": {
                head: {
                    "type_map": "elements",
                    "descriptor": "surroundings",
                    "fitting_net": {**fitting, "seed": seed},
                    "data_stat_nbatch": NUM_FRAMES,  # all frames: no choice that could differ
                }
                for seed, head in enumerate(HEADS)
            },
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 2},
        "loss_dict": dict.fromkeys(HEADS, loss),
        "training": {
            "model_prob": {"gfn1": 0.5, "gfn2": 0.5},
            "data_dict": {
                head: {"training_data": {"systems": [str(water / head)], "batch_size": 1}}
                for head in HEADS
            },
            "numb_steps": 4,
            "seed": 3,
            "disp_freq": 2,
            "save_freq": 2,
        },
    }


@pytest.fixture(scope="module")
def structure(tmp_path_factory) -> Path:
    """Three frames of the bundled test data."""
    system = WATER / "gfn1" / "test"
    stored = system / "set.000"
    path = tmp_path_factory.mktemp("structure") / "water.npz"
    arrays = {name: np.load(stored / f"{name}.npy")[:3].astype(float) for name in ("coord", "box")}
    atype = np.loadtxt(system / "type.raw", dtype=int)
    coord = arrays["coord"].reshape(3, -1, 3)
    np.savez(path, coord=coord, box=arrays["box"].reshape(3, 3, 3), atype=atype)
    return path


@pytest.fixture(scope="module")
def ours(config, tmp_path_factory) -> Path:
    """A run of ours."""
    folder = tmp_path_factory.mktemp("ours")
    dpa2.train(config, output_dir=folder, device="cpu", progress=False)
    (folder / "input.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def theirs(config, deepmd, tmp_path_factory) -> Path:
    """The same run in deepmd-kit."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "input.json").write_text(json.dumps(config))
    deepmd.call("dp", "--pt", "train", "input.json", "--skip-neighbor-stat", cwd=folder)
    return folder


def predicted(model: Path, structure: Path, head: str | None) -> dict[str, np.ndarray]:
    arrays = np.load(structure)
    found = dpa2.load(model, head).predict(arrays["coord"], arrays["box"], arrays["atype"])
    return {name: np.asarray(getattr(found, name)) for name in QUANTITIES}


def assert_agree(theirs: dict[str, list], ours: dict[str, np.ndarray]) -> None:
    for name in QUANTITIES:
        assert np.abs(np.ravel(theirs[name]) - ours[name].ravel()).max() <= TOLERANCE, name


@pytest.mark.parametrize("head", HEADS)
def test_every_branch_of_a_model_of_deepmds_gives_its_energies(head, theirs, structure, deepmd):
    model = theirs / "model.ckpt-4.pt"
    expected = deepmd.run("evaluate_with_deepmd.py", model, structure, head)
    assert_agree(expected, predicted(model, structure, head))


@pytest.mark.parametrize("head", HEADS)
def test_every_branch_of_our_model_is_evaluated_alike(head, ours, structure, deepmd):
    model = ours / "model.ckpt-4.pt"
    expected = deepmd.run("evaluate_with_deepmd.py", model, structure, head)
    assert_agree(expected, predicted(model, structure, head))


@pytest.mark.parametrize("head", HEADS)
def test_dp_freezes_one_head_of_our_model(head, ours, structure, deepmd, tmp_path):
    model = ours / "model.ckpt-4.pt"
    frozen = tmp_path / "frozen.pth"
    deepmd.call("dp", "--pt", "freeze", "-c", model, "-o", frozen, "--head", head, cwd=tmp_path)
    expected = deepmd.run("evaluate_with_deepmd.py", frozen, structure)
    assert_agree(expected, predicted(model, structure, head))


@pytest.mark.parametrize("head", HEADS)
def test_our_frozen_head_runs_in_deepmd(head, ours, structure, deepmd, tmp_path):
    model = ours / "model.ckpt-4.pt"
    frozen = tmp_path / "frozen.pth"
    freeze(model, frozen, head)
    expected = deepmd.run("evaluate_with_deepmd.py", frozen, structure)
    assert_agree(expected, predicted(model, structure, head))


def test_statistics_and_biases_are_those_of_deepmd(ours, theirs):
    found = [read_checkpoint(folder / "model.ckpt-2.pt").tensors for folder in (ours, theirs)]
    assert list(found[0]) == list(found[1])
    names = [k for k in found[0] if k.endswith((".mean", ".stddev", "out_bias"))]
    assert len(names) == len(HEADS) * 7
    for name in names:
        difference = (found[0][name] - found[1][name]).abs().max()
        assert difference <= TOLERANCE, name


def test_dp_shows_tests_and_restarts_our_run(ours, deepmd, tmp_path):
    model = ours / "model.ckpt-2.pt"
    deepmd.call("dp", "--pt", "show", model, "model-branch", "type-map")
    system = WATER / "gfn2" / "test"
    call = ["dp", "--pt", "test", "-m", model, "-s", system, "-n", "2", "--head", "gfn2"]
    deepmd.call(*call, "-d", "detail", cwd=tmp_path)
    force = np.loadtxt(tmp_path / "detail.f.out")[:, 3:]
    assert force.shape == (2 * 96, 3)
    restart = ["dp", "--pt", "train", ours / "input.json", "--restart", model]
    deepmd.call(*restart, "--skip-neighbor-stat", cwd=tmp_path)
    assert (tmp_path / "model.ckpt-4.pt").exists()


def test_we_restart_a_run_of_deepmds(theirs, config, tmp_path):
    result = dpa2.train(
        config,
        restart=theirs / "model.ckpt-2.pt",
        output_dir=tmp_path,
        device="cpu",
        progress=False,
    )
    assert result.steps_done == 4


@pytest.fixture(scope="module")
def tuning(config) -> dict:
    """Fine-tuning on the other level of theory; one step that changes nothing."""
    return {
        "model": {
            "type_map": config["model"]["shared_dict"]["elements"],
            "descriptor": config["model"]["shared_dict"]["surroundings"],
            "fitting_net": config["model"]["model_dict"]["gfn1"]["fitting_net"],
            "data_stat_nbatch": NUM_FRAMES,
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-30, "stop_lr": 1e-31, "decay_steps": 1},
        "loss": config["loss_dict"]["gfn1"],
        "training": {
            **config["training"]["data_dict"]["gfn2"],
            "numb_steps": 1,
            "seed": 3,
            "disp_freq": 1,
            "save_freq": 1,
        },
    }


@pytest.mark.parametrize("source", ["ours", "theirs"])
def test_fine_tuning_starts_alike_here_and_there(source, tuning, structure, deepmd, request):
    folder = request.getfixturevalue(source)
    model = folder / "model.ckpt-4.pt"
    (folder / "tuning.json").write_text(json.dumps(tuning))
    call = ["dp", "--pt", "train", "tuning.json", "--finetune", model, "--model-branch", "gfn1"]
    for name in ("here", "there"):
        (folder / name).mkdir()
    (folder / "there" / "tuning.json").write_text(json.dumps(tuning))
    deepmd.call(*call, cwd=folder / "there")
    dpa2.train(
        tuning,
        finetune=model,
        branch="gfn1",
        output_dir=folder / "here",
        device="cpu",
        progress=False,
    )
    found = [folder / name / "model.ckpt-1.pt" for name in ("here", "there")]
    here, there = (read_checkpoint(path).tensors for path in found)
    assert list(here) == list(there)
    for key, tensor in there.items():
        assert (here[key] - tensor).abs().max() <= 1e-9 if tensor.numel() else True, key
    # Equal weights and energies have equal losses; the loss itself is printed to three digits.
    predictions = [predicted(path, structure, None) for path in found]
    for name in QUANTITIES:
        assert np.abs(predictions[0][name] - predictions[1][name]).max() <= 1e-8, name
