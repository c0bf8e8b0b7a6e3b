"""Data that lack what is trained: energies, all labels, an element in most of the frames."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.moments import draw_frames
from dpa2.training.start import read_input
from schemas.base.errors import ConfigError, DataError
from tests.containers import to_hdf5
from tests.strangers.runs import diagnostics, quiet, small_input, zoo
from tests.strangers.situations import situation
from tests.train.multitask_cases import write_system

BIAS = "model.Default.atomic_model.out_bias"
FORCES_ONLY = {"start_pref_e": 0, "limit_pref_e": 0, "start_pref_f": 1, "limit_pref_f": 1}


@pytest.fixture
def config(here, one_thread):
    """An input on `f`, which has forces alone; `e` has energies alone, `b` both."""
    for name in "feb":
        write_system(here / name, 6, 5, seed=1)
    Path("f/set.000/energy.npy").unlink()
    Path("e/set.000/force.npy").unlink()
    return small_input("f", loss=FORCES_ONLY)


def codes(config, *words):
    found = diagnostics(config, *words)
    return [item["code"] for item in found if item["severity"] == "error"]


@situation("""a set of forces without energies | the loss trains forces alone | trains; the energies
    of the elements are 0, as in deepmd-kit, and that is said""")
@pytest.mark.parametrize("system", ["f", "b"])
def test_forces_train_without_energies(config, system):
    config["training"]["training_data"]["systems"] = [system]
    result = zoo(config, "train")
    assert result.exit_code == 0
    assert "the loss trains no energies" in result.stderr
    assert not read_checkpoint("model.ckpt-4.pt").tensors[BIAS].any()


@situation("""a set of forces without energies | a model is fine-tuned to it, or its bias is to be
    changed after training | the energies of the elements stay those of the model, and that is
    said""")
def test_fine_tuning_to_forces_keeps_the_energies(config):
    energies = {**config, "loss": {}}
    energies["training"] = {**config["training"], "training_data": {"systems": ["b"]}}
    quiet(energies, output_dir="pretrained")
    config["training"]["change_bias_after_training"] = True
    result = zoo(config, "finetune", "--model", "pretrained/model.ckpt.pt")
    assert result.exit_code == 0
    assert result.stderr.count("the loss trains no energies") == 2
    before, after = (
        read_checkpoint(Path(folder, "model.ckpt.pt")).tensors[BIAS]
        for folder in ("pretrained", "")
    )
    assert before.any()
    assert torch.equal(before, after)


@situation("""a set of forces without energies | the loss trains energies, too | an error of
    validate; said what to set to train forces alone""")
def test_energies_that_are_trained_must_be_there(config):
    config["loss"] = {}
    assert codes(config) == ["ZOO634"]
    with pytest.raises(ConfigError, match="no training system has energy"):
        quiet(config)
    config["training"]["training_data"]["systems"] = ["f", "e"]
    assert codes(config) == []


@situation("""HDF5 data of forces without energies | the loss trains energies, too | an error of
    validate, which reads the data""")
def test_energies_in_other_containers_are_looked_for(config):
    config["loss"] = {}
    place = to_hdf5(Path("f"), Path("f.h5"), "one")
    config["training"]["training_data"]["systems"] = [place]
    assert codes(config) == ["ZOO634"]


@situation("""systems of different labels | a batch has no label that the loss trains (forces alone,
    a system of energies alone) | a step that trains nothing, as in deepmd-kit; said once, with the
    system""")
def test_a_batch_without_labels_trains_nothing(config):
    config["training"]["training_data"] = {"systems": ["f", "e"], "sys_probs": [0.0, 1.0]}
    result = zoo(config, "train")
    assert result.exit_code == 0
    assert result.stderr.count("e has no label that the loss trains (force)") == 1
    states = [read_checkpoint(f"model.ckpt-{step}.pt").tensors for step in (2, 4)]
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())


@situation("""systems of different labels | batches with and without labels follow each other |
    training goes on; rows without labels are nan in the learning curve""")
def test_batches_with_and_without_labels(config):
    data = {"systems": ["f", "e"], "auto_prob": "prob_uniform"}
    config["training"] |= {"training_data": data, "numb_steps": 12}
    quiet(config)
    errors = np.loadtxt("lcurve.out")[:, 2]
    assert 0 < np.isnan(errors).sum() < 12


@situation("""a set of energies without forces | the loss trains forces alone | an error of validate
    and of train: nothing would be trained""")
def test_data_without_any_trained_label(config):
    config["training"]["training_data"]["systems"] = ["e"]
    assert codes(config) == ["ZOO635"]
    assert codes(config, "--no-data") == ["ZOO635"]
    checked, _ = read_input(
        {**config, "training": {**config["training"], "training_data": {"systems": ["f"]}}}, ()
    )
    Path("f/set.000/force.npy").rename("f/set.000/other.npy")
    with pytest.raises(DataError, match="nothing would be trained"):
        quiet(checked)


FRAMES = 60
RARE = [17, 41]


@pytest.fixture
def mixed(here):
    """Write a mixed system in which two frames of sixty have an atom of a third element."""
    folder = here / "a"
    write_system(folder, 6, FRAMES, seed=1)
    kinds = np.tile(np.arange(6) % 2, (FRAMES, 1))
    kinds[RARE, 3] = 2
    np.save(folder / "set.000" / "real_atom_types.npy", kinds)
    energy = np.load(folder / "set.000" / "energy.npy")
    energy[RARE] -= 100.0
    np.save(folder / "set.000" / "energy.npy", energy)
    (folder / "type.raw").write_text("0 0 0 0 0 0")
    (folder / "type_map.raw").write_text("O\nH\nCu\n")
    return folder


def drawn_at_random(seed):
    return np.sort(np.random.default_rng([seed, 0]).permutation(FRAMES)[:2]).tolist()


@situation("""OC20, MPtrj: many elements, few frames of some | two of sixty frames have Cu, none of
    the frames drawn for statistics | they are drawn too, and said; deepmd-kit would leave its
    energy at 0""")
def test_a_rare_element_is_drawn(mixed):
    systems = open_systems("a", ["O", "H", "Cu"])
    said: list[str] = []
    first, added = draw_frames(Sampler(systems, 2, seed=1), 1, 3, said.append)
    assert first.indices.tolist() == drawn_at_random(3)
    assert added.indices.tolist() == RARE
    assert said == [
        "the frames drawn for the statistics have no Cu: 2 frames of a that have it are added"
    ]


@situation("""any data | the frames drawn have every element | the same frames as ever: equal
    statistics""")
def test_nothing_is_added_where_nothing_is_missing(mixed):
    kinds = np.tile(np.arange(6) % 2, (FRAMES, 1))
    np.save(mixed / "set.000" / "real_atom_types.npy", kinds)
    systems = open_systems("a", ["O", "H", "Cu"])
    said: list[str] = []
    (only,) = draw_frames(Sampler(systems, 2, seed=1), 1, 3, said.append)
    assert only.indices.tolist() == drawn_at_random(3)
    assert said == []


def rare_input():
    model = {"type_map": ["O", "H", "Cu"], "data_stat_nbatch": 1}
    return small_input("a", steps=1, batch_size=1, model=model)


@situation("""many elements, few frames of some | training with few frames for statistics | the rare
    element has its energy in the model, not 0""")
def test_a_rare_element_has_its_energy(mixed):
    quiet(rare_input())
    _, tensors = read_checkpoint(mixed.parent / "model.ckpt.pt").branch(None)
    bias = next(value for name, value in tensors.items() if name.endswith("out_bias"))
    assert float(bias.reshape(-1)[2]) < -50.0


@situation("""many elements, few frames of some | two of sixty frames have Cu | the preflight notes
    it""")
def test_the_preflight_notes_a_rare_element(mixed):
    said = zoo(rare_input(), "validate").stdout
    assert "ZOO463" in said
    assert "Cu is in 2 of 60 frames" in said
