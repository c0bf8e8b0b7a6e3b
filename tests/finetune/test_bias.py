import numpy as np
import pytest
import torch

import dpa2
from dpa2.data.systems import open_systems
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.model.build import build_model
from dpa2.training.energy_bias import adjust_bias, rebias
from schemas.base.errors import CheckpointError, DataError
from schemas.input.model import parse_model
from tests.finetune.cases import MODEL

FIVE = "data/five"


@pytest.fixture(autouse=True)
def document(case_folder):
    """The input of a case, in the folder of the test with its data."""
    return case_folder("copied")


def shift_labels(eV_per_atom):
    path = f"{FIVE}/set.000/energy.npy"
    np.save(path, np.load(path) + 5 * eV_per_atom)


def test_a_change_shifts_energies_and_nothing_else(tmp_path):
    found = rebias(MODEL, [FIVE], "out.pt", branch="scan")
    before, after = read_checkpoint(MODEL), read_checkpoint(tmp_path / "out.pt")
    assert after.model_params == before.model_params
    assert list(after.tensors) == list(before.tensors)
    changed = [k for k, t in before.tensors.items() if not torch.equal(t, after.tensors[k])]
    assert changed == [f"model.scan.atomic_model.out_{name}" for name in ("bias", "std")]
    assert found.shift.num_frames == 5
    assert found.shift.shift == pytest.approx([-0.77667964, -1.55335927], abs=1e-8)


def test_after_a_change_the_mean_error_of_the_energy_is_zero():
    shift_labels(-20.0)
    rebias(MODEL, [FIVE], "out.pt", branch="scan")
    energies = np.load(f"{FIVE}/set.000/energy.npy")
    predicted = dpa2.load("out.pt", branch="scan").predict(
        coord=np.load(f"{FIVE}/set.000/coord.npy").reshape(5, -1, 3),
        box=np.load(f"{FIVE}/set.000/box.npy").reshape(5, 3, 3),
        atype=np.loadtxt(f"{FIVE}/type.raw", dtype=int),
    )
    assert (predicted.energy - energies.ravel()).mean() == pytest.approx(0.0, abs=1e-10)


def test_an_element_that_the_data_lack_is_named():
    shift = rebias(MODEL, [FIVE], "out.pt", branch="copper").shift
    assert (shift.type_map, shift.observed) == (["H", "O", "Cu"], [True, True, False])
    assert shift.shift[2] == 0.0


def test_a_file_can_be_changed_in_place(tmp_path):
    (tmp_path / "model.pt").write_bytes(MODEL.read_bytes())
    rebias("model.pt", [FIVE], "model.pt", branch="scan")
    again = rebias("model.pt", [FIVE], "model.pt", branch="scan")
    assert again.shift.shift == pytest.approx([0.0, 0.0], abs=1e-10)


def test_data_without_energies_and_models_without_a_choice_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="none was chosen"):
        rebias(MODEL, [FIVE], "out.pt")
    (tmp_path / FIVE / "set.000" / "energy.npy").unlink()
    with pytest.raises(DataError, match="no energies"):
        rebias(MODEL, [FIVE], "out.pt", branch="scan")
    assert not (tmp_path / "out.pt").exists()


def test_a_model_with_frame_parameters_needs_them(document):
    document["model"]["fitting_net"]["numb_fparam"] = 3
    model = build_model(parse_model(document["model"]))
    (system,) = open_systems([FIVE], model.type_map)
    with pytest.raises(DataError, match="fparam; the model takes 3"):
        adjust_bias(model, [system.frames(np.arange(5))], "change")


def test_weights_that_are_no_numbers_are_not_made_energies(tmp_path):
    broken = torch.load(MODEL, weights_only=True)
    tensors = broken.get("model", broken)
    for name in tensors:
        if name.startswith("model.scan") and "fitting_net" in name and name.endswith("bias"):
            tensors[name] = tensors[name] * torch.nan
    torch.save(broken, "nan.pt")
    with pytest.raises(CheckpointError, match="gives no numbers"):
        rebias("nan.pt", [FIVE], "out.pt", branch="scan")
    assert not (tmp_path / "out.pt").exists()
