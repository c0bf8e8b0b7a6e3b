"""Inputs as people write them: what is said of a fault that training alone would show, or never."""

import copy
import json
import random

import pytest

from cli.input_check import without_neighbors
from dpa2.data.preflight.capacity import Neighborhood, check_capacities
from dpa2.data.preflight.request import REPINIT, Cutoff
from schemas.check.input_file import check_file, check_text
from tests.schemas.random_inputs import valid_input
from tests.strangers.situations import case, situation

REPINIT_KEY, LAYERS = "model.descriptor.repinit", "model.descriptor.repformer"
DATA = "training.training_data"


@pytest.fixture
def single(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return _base(multitask=False)


@pytest.fixture
def multi(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return _base(multitask=True)


def _base(*, multitask):
    documents = (valid_input(random.Random(seed)) for seed in range(100))
    document = next(item for item in documents if ("loss_dict" in item) == multitask)
    document["training"] = {
        key: value
        for key, value in document["training"].items()
        if key in ("training_data", "validation_data", "data_dict")
    } | {"numb_steps": 100_000}
    document["learning_rate"] = {"start_lr": 0.001, "stop_lr": 1e-8, "decay_steps": 1000}
    sections = document["training"].get("data_dict", {"": document["training"]})
    for section in sections.values():
        section["training_data"] = {"systems": ["data/a", "data/b"]}
    return document


def verdict(document, changes):
    """The severities that changes of an input lead to, and where: worst first."""
    document = copy.deepcopy(document)
    before = {(item.code, item.path) for item in _found(document)}
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = document
        for key in parents:
            section = section.setdefault(key, {})
        section[last] = value
    new = [item for item in _found(document) if (item.code, item.path) not in before]
    new.sort(key=lambda item: ("error", "warning", "note").index(item.severity))
    return new


def _found(document):
    return [
        item
        for item in check_text(json.dumps(document), "input.json").diagnostics
        if item.code != "ZOO401"
    ]


@pytest.mark.parametrize(("changes", "severity", "words"), [
    case("deepmd-kit | no repformer layers | it trains: a warning", {f"{LAYERS}.nlayers": 0},
         "warning", "neighbours' neighbours"),
    case("input.json | a thousand million layers | refused, with the memory",
         {f"{LAYERS}.nlayers": 1_000_000_000}, "error", "GiB"),
    case("deepmd-kit | a fitting net without layers | it trains: a warning",
         {"model.fitting_net": {"neuron": []}}, "warning", "linear"),
    case("input.json | statistics of 10^9 batches | a warning", {"model.data_stat_nbatch": 10**9},
         "warning", "10000"),
    case("input.json | a cutoff in pm | refused: no end of images", {f"{REPINIT_KEY}.rcut": 1000.0},
         "error", "millions of neighbours"),
    case("deepmd-kit | lcurve.out in a new folder | refused before the run",
         {"training.disp_file": "logs/lcurve.out"}, "error", "does not exist"),
    case("deepmd-kit | stat_file in a new folder | it is made: a warning",
         {"training.stat_file": "stats/dpa2.hdf5"}, "warning", "will be created"),
    case("deepmd-kit | val.log in a new folder | refused before the run",
         {"validating": {"full_validation": True, "full_val_file": "logs/val.log"}}, "error",
         "does not exist"),
    case("input.json | statistics and errors in one file | refused",
         {"training.stat_file": "lcurve.out"}, "error", "same file"),
    case("trackers | start and limit of the energy swapped | a warning",
         {"loss.start_pref_e": 1, "loss.limit_pref_e": 0.02}, "warning", "swapped"),
    case("trackers | start and limit of forces swapped | a warning",
         {"loss.start_pref_f": 1, "loss.limit_pref_f": 1000}, "warning", "swapped"),
    case("input.json | a force weight of 10^12 | a warning",
         {"loss.start_pref_f": 1e12, "loss.limit_pref_f": 1}, "warning", "factor"),
    case("input.json | a learning rate of 10 | a warning", {"learning_rate.start_lr": 10.0},
         "warning", "nothing is learned"),
    case("input.json | a learning rate of 10^-12 | a warning",
         {"learning_rate.start_lr": 1e-12, "learning_rate.stop_lr": 1e-13}, "warning",
         "nothing is learned"),
    case("deepmd-kit | decay_rate 1 | said: the weights stay, too",
         {"learning_rate.decay_rate": 1.0}, "warning", "stay at start_pref"),
    case("deepmd-kit | sys_probs beside auto_prob | said which counts",
         {f"{DATA}.sys_probs": [0.5, 0.5], f"{DATA}.auto_prob": "prob_uniform"}, "warning",
         "`sys_probs` is given too"),
    case("deepmd-kit | max_ckpt_keep beside ckpt_keep_ratio | said",
         {"training.ckpt_keep_ratio": 0.5, "training.max_ckpt_keep": 3}, "warning",
         "`ckpt_keep_ratio` is given too"),
    case("input.json | a folder for TensorBoard, which is off | a warning",
         {"training.tensorboard_log_dir": "runs"}, "warning", "goes with `tensorboard`"),
    case("deepmd-kit | a system in two blocks | refused: the later counts",
         {f"{DATA}.auto_prob": "prob_sys_size;0:2:0.5;1:3:0.5"}, "error", "overlap"),
    case("deepmd-kit | a system with probability 0 | a warning", {f"{DATA}.sys_probs": [1.0, 0.0]},
         "warning", "never drawn"),
    case("deepmd-kit | a seed of 41 bits | said what it is cut to", {"training.seed": 2**40},
         "warning", "same as 0"),
    case("deepmd-kit | a number beyond float32 | refused, with the range",
         {"model.descriptor.env_protection": 1e39}, "error", "beyond float32"),
    case("deepmd-kit | null for a key that takes none | a warning",
         {"training.gradient_max_norm": None}, "warning", "deepmd-kit refuses"),
    case("deepmd-kit 3.1 | two optimisers, old and new key | refused",
         {"training.opt_type": "AdamW", "optimizer": {"type": "Adam"}}, "error",
         "otherwise in `optimizer`"),
    case("input.json | 10^9 neighbours | refused: no memory holds them",
         {f"{REPINIT_KEY}.nsel": 10**9}, "error", "far above the usual"),
    case("input.json | batches of 10^9 atoms | a warning",
         {f"{DATA}.batch_size": "auto:1000000000"}, "warning", "no batch"),
    case("deepmd-kit | an empty name of a type | refused", {"model.type_map": ["O", "H", ""]},
         "error", "no name"),
])  # fmt: skip
def test_inputs_of_one_task(changes, severity, words, single):
    found = verdict(single, changes)
    assert found[0].severity == severity
    said = [f"{item.message} {item.hint}" for item in found if item.severity == severity]
    assert any(words in text for text in said)


@pytest.mark.parametrize(("changes", "severity", "words"), [
    case("deepmd-kit | a descriptor beside model_dict | refused: unused",
         {"model.descriptor": {"type": "dpa2"}}, "error", "has no effect here"),
    case("deepmd-kit | a fitting net beside model_dict | refused: unused",
         {"model.fitting_net": {"neuron": [100, 100, 100]}}, "error", "has no effect here"),
])  # fmt: skip
def test_inputs_of_several_branches(changes, severity, words, multi):
    found = verdict(multi, changes)
    assert found[0].severity == severity
    assert words in found[0].message


@situation("deepmd-kit | one stat_file for two branches | refused: energies of the other")
def test_branches_with_one_file_of_statistics(multi):
    changes = {
        f"training.data_dict.{name}.stat_file": "stat.hdf5"
        for name in multi["training"]["data_dict"]
    }
    (found,) = verdict(multi, changes)
    assert (found.code, found.severity) == ("ZOO542", "error")


@pytest.mark.parametrize(("name", "severity"), [
    case("PyTorch | a branch called train | refused: a module has that name", "train", "error"),
    case("HDF5 | a branch with a slash | refused: no file or group", "water/ice", "error"),
    case("shells | a branch with a colon | a warning: quotes are needed", "ice:2", "warning"),
])  # fmt: skip
def test_names_of_branches(name, severity, multi):
    old = next(iter(multi["loss_dict"]))
    for holder in (
        multi["model"]["model_dict"],
        multi["loss_dict"],
        multi["training"]["data_dict"],
    ):
        holder[name] = holder.pop(old)
    multi["training"].pop("model_prob", None)
    assert severity in {item.severity for item in _found(multi) if name in item.path}


@situation("dp train | --skip-neighbor-stat with nsel auto | refused: auto needs the data")
def test_selections_from_data_that_are_not_to_be_read(single, tmp_path):
    single["model"]["descriptor"]["repinit"]["nsel"] = "auto"
    path = tmp_path / "input.json"
    path.write_text(json.dumps(single))
    codes = {item.code for item in without_neighbors(check_file(path)).diagnostics}
    assert "ZOO361" in codes
    assert "ZOO361" not in {item.code for item in check_file(path).diagnostics}


@situation("input.json | nsel twenty times what the data need | a warning, with the number")
def test_a_list_twenty_times_too_long(histogram):
    (narrow,) = check_capacities([histogram(70)])
    (wide,) = check_capacities([histogram(200)])
    assert (narrow.severity, wide.severity) == ("note", "warning")
    assert "20 times" in wide.message


@pytest.fixture
def histogram():
    import numpy as np

    counts = np.zeros(11, dtype=np.int64)
    counts[10] = 5

    def build(nsel):
        return Neighborhood(Cutoff(REPINIT, 6.0, nsel, ("rcut",), ("nsel",)), counts, "atom 0")

    return build
