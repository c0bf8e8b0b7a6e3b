"""Inputs as people write them: what is said of a fault that training alone would show, or never."""

import json
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cli.input_check import without_neighbors
from dpa2.data.preflight.capacity import Neighborhood, check_capacities
from dpa2.data.preflight.request import REPINIT, Cutoff
from schemas.check.input_file import check_file, check_text
from tests.cli.conftest import changed
from tests.strangers.runs import diagnostics
from tests.strangers.situations import case, situation
from tests.train.multitask_cases import MODEL, write_system

REPINIT_KEY, LAYERS = "model.descriptor.repinit", "model.descriptor.repformer"
DATA = "training.training_data"
SCHEDULE = {"start_lr": 1e-3, "stop_lr": 1e-8, "decay_steps": 100}
ONE_TASK = {
    "model": MODEL,
    "learning_rate": SCHEDULE,
    "loss": {"start_pref_v": 0, "limit_pref_v": 0},
    "training": {
        "training_data": {"systems": ["a", "b", "c"], "batch_size": 2},
        "numb_steps": 10_000,
        "seed": 1,
    },
}
BRANCH = {"type_map": "types", "descriptor": "dpa2", "fitting_net": MODEL["fitting_net"]}
BRANCHES = {
    "model": {
        "shared_dict": {"types": MODEL["type_map"], "dpa2": MODEL["descriptor"]},
        "model_dict": {"one": BRANCH, "two": BRANCH},
    },
    "learning_rate": SCHEDULE,
    "loss_dict": {"one": {}, "two": {}},
    "training": {
        "data_dict": {
            "one": {"training_data": {"systems": ["a"]}},
            "two": {"training_data": {"systems": ["b"]}},
        },
        "numb_steps": 10_000,
        "seed": 1,
    },
}


TWO_SYSTEMS = changed(
    ONE_TASK, {f"{DATA}.systems": ["data/a", "data/b"], "training.numb_steps": 100_000}
)


def because_of(changes, document, found):
    """Return what is found in a changed input only, worst first."""
    known = found(document)
    new = [item for item in found(changed(document, changes)) if item not in known]
    return sorted(new, key=lambda item: ("error", "warning", "note").index(item.severity))


def in_text(document):
    """Return what the text of an input alone shows."""
    report = check_text(json.dumps(document), "input.json")
    return [item for item in report.diagnostics if item.code != "ZOO401"]


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
def test_inputs_of_one_task(changes, severity, words, here):
    found = because_of(changes, TWO_SYSTEMS, in_text)
    assert found[0].severity == severity
    said = [f"{item.message} {item.hint}" for item in found if item.severity == severity]
    assert any(words in text for text in said)


@pytest.mark.parametrize(("changes", "severity", "words"), [
    case("deepmd-kit | a descriptor beside model_dict | refused: unused",
         {"model.descriptor": {"type": "dpa2"}}, "error", "has no effect here"),
    case("deepmd-kit | a fitting net beside model_dict | refused: unused",
         {"model.fitting_net": {"neuron": [100, 100, 100]}}, "error", "has no effect here"),
])  # fmt: skip
def test_inputs_of_several_branches(changes, severity, words, here):
    found = because_of(changes, BRANCHES, in_text)
    assert found[0].severity == severity
    assert words in found[0].message


@situation("deepmd-kit | one stat_file for two branches | refused: energies of the other")
def test_branches_with_one_file_of_statistics(here):
    changes = {f"training.data_dict.{name}.stat_file": "stat.hdf5" for name in ("one", "two")}
    (found,) = because_of(changes, BRANCHES, in_text)
    assert (found.code, found.severity) == ("ZOO542", "error")


@pytest.mark.parametrize(("name", "severity"), [
    case("PyTorch | a branch called train | refused: a module has that name", "train", "error"),
    case("HDF5 | a branch with a slash | refused: no file or group", "water/ice", "error"),
    case("shells | a branch with a colon | a warning: quotes are needed", "ice:2", "warning"),
])  # fmt: skip
def test_names_of_branches(name, severity, here):
    document = changed(BRANCHES, {})
    for path in ("model.model_dict", "loss_dict", "training.data_dict"):
        holder = reduce(getitem, path.split("."), document)
        holder[name] = holder.pop("one")
    assert severity in {item.severity for item in in_text(document) if name in item.path}


@situation("dp train | --skip-neighbor-stat with nsel auto | refused: auto needs the data")
def test_selections_from_data_that_are_not_to_be_read(here):
    document = changed(ONE_TASK, {f"{REPINIT_KEY}.nsel": "auto"})
    Path("input.json").write_text(json.dumps(document))
    report = check_file("input.json")
    assert "ZOO361" in {item.code for item in without_neighbors(report).diagnostics}
    assert "ZOO361" not in {item.code for item in report.diagnostics}


@situation("input.json | nsel twenty times what the data need | a warning, with the number")
def test_a_list_twenty_times_too_long():
    counts = np.bincount([10] * 5)
    cutoffs = (Cutoff(REPINIT, 6.0, nsel, ("rcut",), ("nsel",)) for nsel in (70, 200))
    ((narrow,), (wide,)) = (check_capacities([Neighborhood(c, counts, "atom 0")]) for c in cutoffs)
    assert (narrow.severity, wide.severity) == ("note", "warning")
    assert "20 times" in wide.message


@pytest.fixture
def folder(here):
    for number, name in enumerate("abc"):
        write_system(here / name, 6, 5, seed=number + 1)
    write_system(here / "one", 6, 5, seed=9)
    (here / "one" / "type.raw").write_text("0\n" * 6)
    (here / "junk.hdf5").write_text("no HDF5")
    return here


class Told(NamedTuple):
    """A diagnostic of the command."""

    severity: str
    code: str
    path: str


def with_data(document):
    """Return what the command finds in an input and its data; notes are left out."""
    told = (
        Told(item["severity"], item["code"], ".".join(map(str, item["path"])))
        for item in diagnostics(document)
    )
    return [item for item in told if item.severity != "note"]


@pytest.mark.parametrize(("changes", "expected"), [
    case("deepmd-kit | all types are in atom_exclude_types | refused",
         {"model.atom_exclude_types": [0, 1]}, [("error", "ZOO380", "model.atom_exclude_types")]),
    case("deepmd-kit | all atoms of one system are excluded | refused: its loss is infinite",
         {f"{DATA}.systems": ["a", "one"], "model.atom_exclude_types": [0]},
         [("error", "ZOO380", f"{DATA}.systems.1")]),
    case("deepmd-kit | one of two elements is excluded | no word",
         {"model.atom_exclude_types": [0]}, []),
    case("deepmd-kit | the only pair of the data is excluded | a warning",
         {f"{DATA}.systems": ["one"], "model.pair_exclude_types": [[0, 0]]},
         [("warning", "ZOO381", "model.pair_exclude_types")]),
    case("deepmd-kit | two lists together exclude all pairs | a warning",
         {"model.pair_exclude_types": [[0, 1], [1, 1]], "model.descriptor.exclude_types": [[0, 0]]},
         [("warning", "ZOO381", "model.pair_exclude_types")]),
    case("deepmd-kit | pairs of one element are left | no word",
         {"model.pair_exclude_types": [[0, 1], [1, 1]]}, []),
    case("input.json | energies have no weight, though there are | a warning",
         {"loss.start_pref_e": 0, "loss.limit_pref_e": 0},
         [("warning", "ZOO422", "loss.start_pref_e")]),
    case("deepmd-kit | use_huber beside loss_func mae | said which counts",
         {"loss.loss_func": "mae", "loss.use_huber": True},
         [("warning", "ZOO360", "loss.use_huber")]),
    case("input.json | stat_file is no HDF5 file | one error, not two",
         {"training.stat_file": "junk.hdf5"}, [("error", "ZOO354", "training.stat_file")]),
    case("input.json | type_map lacks H of three systems | one error",
         {"model.type_map": ["O"], "model.descriptor.exclude_types": []},
         [("error", "ZOO404", f"{DATA}.systems.0")]),
    case("input.json | rglob_patterns is no list | one error, none of other folders' data",
         {f"{DATA}.systems": ".", f"{DATA}.rglob_patterns": "a*"},
         [("error", "ZOO103", f"{DATA}.rglob_patterns")]),
    case("deepmd-kit | validation data are below a folder of other systems | no word",
         {f"{DATA}.systems": ".", f"{DATA}.rglob_patterns": ["a", "b"],
         "training.validation_data.systems": ["c"]}, []),
])  # fmt: skip
def test_what_is_off_and_what_is_said_once(changes, expected, folder):
    assert because_of(changes, ONE_TASK, with_data) == expected


@pytest.mark.parametrize(("changes", "expected"), [
    case("input.json | shared_dict is null | one error, not one a reference",
         {"model.shared_dict": None}, ("ZOO501", "model.shared_dict")),
    case("deepmd-kit | full validation with branches | one error, the cause",
         {"validating": {"full_validation": True}}, ("ZOO509", "validating.full_validation")),
    case("input.json | a descriptor's name as type_map | one error",
         {"model.model_dict.two.type_map": "dpa2"}, ("ZOO521", "model.model_dict.two.type_map")),
])  # fmt: skip
def test_faults_of_branches_are_said_once(changes, expected, folder):
    found = because_of(changes, BRANCHES, with_data)
    assert [item for item in found if item[0] == "error"] == [("error", *expected)]
