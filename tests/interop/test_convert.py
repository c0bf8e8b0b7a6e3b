"""Portable models travel both ways between deepmd-kit 3.2.0 and us."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dpa2
from dpa2.formats.conversion import convert
from dpa2.formats.table import format_of
from dpa2.formats.weights import to_deepmd_state

pytestmark = pytest.mark.interop

CASES = [
    "every_update_res_residual",
    "davg_strip",
    "fparam_aparam",
    "econf_bias_no_output_tebd",
    "pair_and_atom_exclude",
]
QUANTITIES = ("energy", "force", "virial", "atom_energy")
ENERGY, FORCE = 1e-10, 1e-9  # eV per atom, eV/Å


def read(path: Path, branch: str | None = None):
    return format_of(path).read(path, branch)


def assert_same_model(found: Path, expected: Path, branch: str | None = None) -> None:
    """Every tensor equal to the bit, and the same model section."""
    one, other = read(found), read(expected, branch)
    assert one.model_params == other.model_params
    mine, theirs = to_deepmd_state(one.model), to_deepmd_state(other.model)
    assert list(mine) == list(theirs)
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def our_prediction(model: Path, structure: Path):
    arrays = np.load(structure)
    extra = {key: arrays[key] for key in ("fparam", "aparam") if key in arrays}
    return dpa2.load(model).predict(arrays["coord"], arrays.get("box"), arrays["atype"], **extra)


def assert_agree(theirs, ours, *, forces: bool = True) -> None:
    num_atoms = ours.force.shape[1]
    assert np.abs(np.ravel(theirs["energy"]) - ours.energy).max() / num_atoms <= ENERGY
    atom_energy = np.ravel(theirs["atom_energy"]) - ours.atom_energy.ravel()
    assert np.abs(atom_energy).max() <= ENERGY
    if forces:
        for name in ("force", "virial"):
            difference = np.ravel(theirs[name]) - getattr(ours, name).ravel()
            assert np.abs(difference).max() <= FORCE, name


@pytest.fixture(scope="module")
def theirs(deepmd, tmp_path_factory):
    """Folder with every case as deepmd-kit converts it to .dp, .yaml and .pth."""
    folder = tmp_path_factory.mktemp("theirs")
    files = []
    for name in CASES:
        for suffix in (".dp", ".yaml", ".pth"):
            source = Path(__file__).parents[1] / "golden" / name / "model.pt"
            files += [source, folder / f"{name}{suffix}"]
    deepmd.run("convert_with_deepmd.py", *files)
    return folder


@pytest.fixture(scope="module")
def ours(deepmd, tmp_path_factory):
    """Folder with every case as we convert it, and what deepmd-kit makes of our .dp and .pth."""
    folder = tmp_path_factory.mktemp("ours")
    files = []
    for name in CASES:
        source = Path(__file__).parents[1] / "golden" / name / "model.pt"
        for suffix in (".dp", ".yaml", ".pth"):
            convert(source, folder / f"{name}{suffix}")
        files += [folder / f"{name}.dp", folder / f"{name}-from-dp.pth"]
        files += [folder / f"{name}.pth", folder / f"{name}-from-pth.dp"]
    deepmd.run("convert_with_deepmd.py", *files)
    return folder


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".pth"])
def test_we_read_what_deepmd_writes_to_the_bit(name, suffix, theirs, golden):
    assert_same_model(theirs / f"{name}{suffix}", golden / name / "model.pt")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".pth"])
def test_we_evaluate_what_deepmd_writes(name, suffix, theirs, golden):
    structure = golden / name / "expected.npz"
    found = our_prediction(theirs / f"{name}{suffix}", structure)
    expected = our_prediction(golden / name / "model.pt", structure)
    assert_agree({name: getattr(expected, name) for name in QUANTITIES}, found)


@pytest.fixture(scope="module")
def evaluated(deepmd, ours):
    """What deepmd-kit computes with our portable models, by file name; one process for all."""
    files = [ours / f"{name}{kind}" for name in CASES for kind in (".dp", ".yaml", "-from-dp.pth")]
    golden = Path(__file__).parents[1] / "golden"
    pairs = [
        item
        for file in files
        for item in (file, golden / file.stem.removesuffix("-from-dp") / "expected.npz")
    ]
    found = deepmd.run("evaluate_many_with_deepmd.py", *pairs)
    return {file.name: result for file, result in zip(files, found, strict=True)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_deepmd_evaluates_energies_of_our_portable_models(name, suffix, evaluated, golden):
    expected = our_prediction(golden / name / "model.pt", golden / name / "expected.npz")
    # its reference backend gives no forces
    assert_agree(evaluated[f"{name}{suffix}"], expected, forces=False)


@pytest.mark.parametrize("name", CASES)
def test_deepmd_evaluates_what_it_makes_of_our_portable_models(name, evaluated, golden):
    expected = our_prediction(golden / name / "model.pt", golden / name / "expected.npz")
    assert_agree(evaluated[f"{name}-from-dp.pth"], expected)


@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_from_deepmd_to_the_bit(name, ours, golden):
    for back in (f"{name}-from-dp.pth", f"{name}-from-pth.dp"):
        assert_same_model(ours / back, golden / name / "model.pt")


def test_a_branch_that_deepmd_froze_and_converted_is_the_branch(golden, deepmd, tmp_path):
    source = golden / "multitask" / "model.pt"
    for command in (
        ("--pt", "freeze", "-c", source, "-o", "scan.pth", "--head", "scan"),
        ("convert-backend", "scan.pth", "scan.dp"),
    ):
        deepmd.call("dp", *command, cwd=tmp_path)
    convert(source, tmp_path / "ours.dp", branch="scan")
    for name in ("scan.pth", "scan.dp"):
        one, other = read(tmp_path / name), read(tmp_path / "ours.dp")
        mine, theirs = to_deepmd_state(one.model), to_deepmd_state(other.model)
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_half_precision_that_deepmd_cannot_read_back_itself_is_read_from_our_file(
    golden, deepmd, tmp_path
):
    convert(golden / "bfloat16" / "model.pt", tmp_path / "x.dp")
    structure = golden / "bfloat16" / "expected.npz"
    (found,) = deepmd.run("evaluate_many_with_deepmd.py", tmp_path / "x.dp", structure)
    energy = our_prediction(golden / "bfloat16" / "model.pt", structure).energy
    assert np.abs(np.ravel(found["energy"]) - energy).max() < 0.1
