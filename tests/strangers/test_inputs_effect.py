"""Inputs in which something is off unawares, and inputs with one fault, which is told once."""

import json

import pytest

from tests.commands import outcome
from tests.strangers.situations import case
from tests.train.multitask_cases import MODEL, write_system

TRAINING = "training.training_data"


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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        write_system(tmp_path / name, 6, 5, seed=number + 1)
    write_system(tmp_path / "one", 6, 5, seed=9)
    (tmp_path / "one" / "type.raw").write_text("0\n" * 6)
    (tmp_path / "junk.hdf5").write_text("no HDF5")
    return tmp_path


def because_of(document, changes, folder):
    """Return what validate finds in a changed input only."""
    known = _found(document, folder)
    document = json.loads(json.dumps(document))
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = document
        for key in parents:
            section = section.setdefault(key, {})
        section[last] = value
    return [item for item in _found(document, folder) if item not in known]


def _found(document, folder):
    (folder / "input.json").write_text(json.dumps(document))
    result = outcome("validate", "input.json", "--json")
    items = json.loads(result.stdout)["files"][0]["diagnostics"]
    return [
        (item["severity"], item["code"], ".".join(map(str, item["path"])))
        for item in items
        if item["severity"] != "note"
    ]


@pytest.mark.parametrize(("changes", "expected"), [
    case("deepmd-kit | all types are in atom_exclude_types | refused",
         {"model.atom_exclude_types": [0, 1]}, [("error", "ZOO380", "model.atom_exclude_types")]),
    case("deepmd-kit | all atoms of one system are excluded | refused: its loss is infinite",
         {f"{TRAINING}.systems": ["a", "one"], "model.atom_exclude_types": [0]},
         [("error", "ZOO380", f"{TRAINING}.systems.1")]),
    case("deepmd-kit | one of two elements is excluded | no word",
         {"model.atom_exclude_types": [0]}, []),
    case("deepmd-kit | the only pair of the data is excluded | a warning",
         {f"{TRAINING}.systems": ["one"], "model.pair_exclude_types": [[0, 0]]},
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
         [("error", "ZOO404", f"{TRAINING}.systems.0")]),
    case("input.json | rglob_patterns is no list | one error, none of other folders' data",
         {f"{TRAINING}.systems": ".", f"{TRAINING}.rglob_patterns": "a*"},
         [("error", "ZOO103", f"{TRAINING}.rglob_patterns")]),
    case("deepmd-kit | validation data are below a folder of other systems | no word",
         {f"{TRAINING}.systems": ".", f"{TRAINING}.rglob_patterns": ["a", "b"],
         "training.validation_data.systems": ["c"]}, []),
])  # fmt: skip
def test_what_is_off_and_what_is_said_once(changes, expected, folder):
    assert because_of(ONE_TASK, changes, folder) == expected


@pytest.mark.parametrize(("changes", "expected"), [
    case("input.json | shared_dict is null | one error, not one a reference",
         {"model.shared_dict": None}, ("ZOO501", "model.shared_dict")),
    case("deepmd-kit | full validation with branches | one error, the cause",
         {"validating": {"full_validation": True}}, ("ZOO509", "validating.full_validation")),
    case("input.json | a descriptor's name as type_map | one error",
         {"model.model_dict.two.type_map": "dpa2"}, ("ZOO521", "model.model_dict.two.type_map")),
])  # fmt: skip
def test_faults_of_branches_are_said_once(changes, expected, folder):
    found = because_of(BRANCHES, changes, folder)
    assert [item for item in found if item[0] == "error"] == [("error", *expected)]
