import json

import numpy as np
import pytest
import torch

from dpa2.evaluate.deviation import COLUMNS, spread
from dpa2.evaluate.potential import load
from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from schemas.base.errors import DataError
from tests.evaluate.conftest import write_system


@pytest.fixture(scope="session")
def models(water_model, tmp_path_factory):
    """Return three models: one, and two with other energies and forces."""
    folder = tmp_path_factory.mktemp("models")
    source = read_checkpoint(water_model)
    section, tensors = source.branch()
    paths = [water_model]
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        changed = {
            key: tensor + 0.02 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if "fitting_net" in key and tensor.is_floating_point() and tensor.ndim == 2
            else tensor
            for key, tensor in tensors.items()
        }
        path = folder / f"{seed}.pt"
        write_checkpoint(
            path, tensors={"Default": changed}, model_params=section, step=0, learning_rate=0.0
        )
        paths.append(path)
    return paths


def options(models, *more):
    return [word for model in models for word in ("-m", model)] + list(more)


def table(path):
    return np.loadtxt(path, ndmin=2)


def test_the_columns_are_the_spread_of_the_models(run, models, system, frames, tmp_path):
    out = tmp_path / "model_devi.out"
    run("deviation", *options(models, "-s", system, "-o", out, "-f", 10, "--atomic"))
    found = table(out)
    predicted = [
        load(model).predict(frames["coord"], frames["box"], frames["atype"]) for model in models
    ]
    num_frames, num_atoms = frames["coord"].shape[:2]
    force = np.std([p.force for p in predicted], axis=0)
    per_atom = np.sqrt((force**2).sum(axis=-1))
    virial = np.std([p.virial.reshape(-1, 9) for p in predicted], axis=0) / num_atoms
    expected = np.column_stack(
        [
            np.arange(num_frames) * 10,
            virial.max(axis=1),
            virial.min(axis=1),
            np.sqrt((virial**2).mean(axis=1)),
            per_atom.max(axis=1),
            per_atom.min(axis=1),
            per_atom.mean(axis=1),
            np.std([p.energy for p in predicted], axis=0) / num_atoms,
            per_atom,
        ]
    )
    assert (expected[:, 1:] > 1e-6).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    header = out.read_text().splitlines()[:2]
    assert header[0] == f"# {system}"
    assert header[1].split() == ["#", "step", *COLUMNS, "atm_devi_f(N)"]


def test_real_errors_compare_with_the_labels(run, models, system, frames, tmp_path):
    out = tmp_path / "errors.out"
    run("deviation", *options(models[:1], "-s", system, "-o", out, "--real-error"))
    found = table(out)
    num_atoms = frames["coord"].shape[1]
    # `system` is off by 0.5 eV, 0.25 eV/Å in each direction and 2 eV in each component.
    np.testing.assert_allclose(found[:, 1:4], 2.0 / num_atoms, rtol=1e-6)
    np.testing.assert_allclose(found[:, 4:7], 0.25 * np.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose(found[:, 7], 0.5 / num_atoms, rtol=1e-6)


def test_relative_deviations_divide_by_the_mean_and_a_level():
    force = np.zeros((2, 1, 1, 3))
    force[:, 0, 0, 0] = 3.0, 5.0
    assert spread(force, None, None, of_vectors=True).item() == pytest.approx(1.0)
    assert spread(force, None, 1.0, of_vectors=True).item() == pytest.approx(1.0 / 5.0)
    label = np.array([[[0.0, 2.0, 0.0]]])
    both = (3.0**2 + 5.0**2) / 2 + 2.0**2
    assert spread(force, label, 1.0, of_vectors=True).item() == pytest.approx(np.sqrt(both) / 3.0)
    virial = np.zeros((2, 2, 9))
    virial[:, :, 0] = [[1.0, 1.0], [3.0, 1.0]]
    assert spread(virial, None, 2.0, of_vectors=False)[:, 0].tolist() == pytest.approx([1 / 4, 0.0])
    energy = np.array([[[1.0]], [[3.0]]])
    assert spread(energy, None, None, of_vectors=True).tolist() == [1.0]


def test_the_summary_holds_the_largest_of_each_column(run, models, system, tmp_path):
    out = tmp_path / "model_devi.out"
    text = run("deviation", *options(models, "-s", system, "-o", out, "--json")).stdout
    entry = json.loads(text)["systems"][0]
    largest = table(out)[:, 1:].max(axis=0)
    assert [entry[name] for name in COLUMNS] == pytest.approx(largest.tolist(), rel=1e-5)


def test_what_cannot_be_compared_or_would_be_lost_is_refused(run, models, frames, tmp_path):
    bare = write_system(tmp_path / "bare", frames, virial=False)
    out = tmp_path / "out"
    for chosen, more, reason in (
        (models[:1], (), "deviation of one model is zero"),
        (models, ("--real-error",), "no labels of virial"),
    ):
        with pytest.raises(DataError, match=reason):
            run("deviation", *options(chosen, "-s", bare, "-o", out, *more))
        assert not out.exists()
    out.write_text("mine")
    with pytest.raises(DataError, match="there already"):
        run("deviation", *options(models, "-s", bare, "-o", out))
    assert out.read_text() == "mine"


def test_models_that_know_more_elements_are_compared(run, models, system, tmp_path):
    other = models[0].parents[1] / "triclinic_five_elements" / "model.pt"
    out = tmp_path / "out"
    run("deviation", *options([*models, other], "-s", system, "-o", out))
    assert (table(out)[:, 1:] > 0).all()
