"""One fault at a thousand places is one finding, with a count and the first places."""

import copy
import json
from pathlib import Path

import pytest

from cli.input_check import with_data
from cli.language_server import to_diagnostic
from cli.render import render, sarif
from schemas.check.input_file import check_file, check_text, fix_text
from tests.cli.conftest import MULTI_TASK, SINGLE_TASK, changed, write_system
from tests.strangers.situations import case, situation

DPA4 = {"type": "dpa4", "sel": 120, "rcut": 6.0, "channels": 64, "n_radial": 8, "lmax": 3}
DPA4_NET = {"type": "dpa4_ener", "neuron": [0], "precision": "float32"}
NAMES = [f"branch_{number}" for number in range(30)]
SYSTEMS = "training.training_data.systems"


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("water", "ice"):
        write_system(tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)


def single(**changes):
    return changed(SINGLE_TASK, {path.replace("__", "."): value for path, value in changes.items()})


def branches(model=None, loss=None, data=None):
    """An input of 30 branches that are all changed alike."""
    document = copy.deepcopy(MULTI_TASK)
    one = {**MULTI_TASK["model"]["model_dict"]["water"], **(model or {})}
    systems = {"training_data": {"systems": ["data/water"], **(data or {})}}
    document["model"]["model_dict"] = dict.fromkeys(NAMES, one)
    document["loss_dict"] = {name: loss or {} for name in NAMES}
    document["training"]["data_dict"] = dict.fromkeys(NAMES, systems)
    return json.loads(json.dumps(document))


def missing(*systems):
    return single(training__training_data={"systems": list(systems)})


def without(document, *path):
    document = json.loads(json.dumps(document))
    for name in NAMES:
        section = document["model"]["model_dict"][name]
        del section[path[0]]
    return document


FLOODS = [
    case("lists of systems moved to another machine | 1186 of 1187 paths do not exist | one "
         "finding with the count and the first places",
         lambda: missing("data/water", *(f"data/{n}" for n in range(1186))), "ZOO401", 1186,
         id="paths"),
    case("multi-task inputs of DPA-4 | model, descriptor and fitting nets are of another kind | "
        "one finding: another kind of model", lambda: changed(MULTI_TASK, {
        "model.shared_dict.descriptor": DPA4,
        "model.model_dict.water": {"type": "dpa4", "type_map": "elements",
            "descriptor": "descriptor", "fitting_net": DPA4_NET},
        "model.model_dict.salt": {"type": "dpa4", "type_map": "elements",
            "descriptor": "descriptor", "fitting_net": DPA4_NET}}),
        "ZOO108", 5, id="dpa4 multi-task"),
    pytest.param(lambda: single(model__type="dpa4", model__descriptor=DPA4,
        model__fitting_net=DPA4_NET), "ZOO108", 3, id="dpa4"),
    case("inputs for --use-pretrain-script | an empty descriptor, validated without a checkpoint "
         "| one finding that names the options, not three missing keys",
         lambda: single(model__descriptor={}), "ZOO605", 1, id="empty"),
    pytest.param(lambda: changed(MULTI_TASK, {"model.shared_dict.descriptor": {"_from": "DPA"}}),
        "ZOO605", 1, id="empty shared"),
    case("multi-task inputs written by a script | one misspelt key in each of 30 branches | one "
         "finding, one fix for all", lambda: branches(model={"fitting_net": {"neurons": [8]}}),
         "ZOO102", 30, id="misspelt in branches"),
    pytest.param(lambda: branches(model={"fitting_net": {"neuron": "x"}}), "ZOO103", 30,
        id="wrong type in branches"),
    pytest.param(lambda: branches(model={"descriptor": "descriptr"}), "ZOO521", 30,
        id="wrong reference in branches"),
    pytest.param(lambda: branches(loss={"start_pref_e": -1}), "ZOO104", 30, id="loss in branches"),
    pytest.param(lambda: branches(data={"batch_size": "autoo"}), "ZOO105", 30,
        id="batch size in branches"),
    pytest.param(lambda: without(branches(), "fitting_net"), "ZOO101", 30,
        id="missing in branches"),
    case("multi-task inputs turned from DeepPot-SE | keys of another descriptor in every branch | "
        "one finding", lambda: branches(model={"descriptor": {"type": "dpa2", "sel": [4, 4],
        "axis_neuron": 4, "neuron": [8]}}), "ZOO102", None, id="keys of se_e2_a in branches"),
    pytest.param(lambda: single(training__training_data={"systems": [1] * 500}), "ZOO103", 500,
        id="types in a list"),
    case("inputs of other programs | 50 unknown keys in one section | one finding",
        lambda: single(training={**SINGLE_TASK["training"],
        **{f"my_key_{n}": n for n in range(50)}}), "ZOO102", 50, id="unknown keys"),
    pytest.param(lambda: single(model__type_map=["O"] * 30 + ["H"]), "ZOO241", 29, id="elements"),
    pytest.param(lambda: single(model__atom_exclude_types=[9] * 40), "ZOO244", 40, id="indices"),
    pytest.param(lambda: missing(*["data/water"] * 40), "ZOO405", 39, id="listed twice"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "code", "number"), FLOODS)
def test_a_flood_is_one_finding(make, code, number):
    report = check_text(json.dumps(make(), indent=1))
    (found,) = [item for item in report.diagnostics if item.code == code]
    if number is not None and number > 1:
        assert f"(and {number - 1} more)" in found.message
    assert sum(item.severity == "error" for item in report.diagnostics) <= 2
    assert len("\n".join(render(report, "full")).splitlines()) < 60
    assert len("\n".join(render(report, "concise")).splitlines()) < 10


@situation("""data folders with a thousand broken systems | 1000 systems are entries of their own
    and each lacks its type.raw | one finding""")
def test_a_thousand_bad_systems_are_one_finding():
    names = [f"data/bad{number}" for number in range(1000)]
    for name in names:
        (Path(name) / "set.000").mkdir(parents=True)
        (Path(name) / "set.000" / "coord.npy").touch()
    Path("input.json").write_text(json.dumps(missing("data/water", *names)))
    found = with_data(check_file("input.json")).diagnostics
    errors = [item for item in found if item.severity == "error"]
    assert len(errors) <= 2
    assert sum("(and 999 more)" in item.message for item in errors) == len(errors)


def test_findings_of_a_few_places_stay_apart():
    report = check_text(json.dumps(missing("data/a", "data/b", "data/c")))
    assert len(report.diagnostics) >= 1
    text = json.dumps(missing("data/water", "data/b", "data/c"))
    assert sum(item.code == "ZOO401" for item in check_text(text).diagnostics) == 2


def test_one_fix_mends_all_places():
    text = json.dumps(branches(model={"fitting_net": {"neurons": [8, 8]}}), indent=1)
    fixed = json.loads(fix_text(text, "input.json", unsafe=True).text)
    sections = fixed["model"]["model_dict"].values()
    assert all(section["fitting_net"] == {"neuron": [8, 8]} for section in sections)


@situation("""editors and continuous integration | a finding of a thousand places in --format
    github, concise, json, sarif, or an editor | each says the count; those that can, the places""")
def test_every_renderer_shows_the_count():
    text = json.dumps(missing("data/water", *(f"data/{n}" for n in range(1186))), indent=1)
    report = check_text(text)
    (item,) = [item for item in report.diagnostics if item.code == "ZOO401"]
    for style in ("full", "concise", "github"):
        (line,) = [line for line in render(report, style) if "data/0" in line and "ZOO401" in line]
        assert "(and 1185 more)" in line
    related = item.document()["related"]
    assert related[-1]["message"] == "and 1145 more"
    result = sarif([report])["runs"][0]["results"]
    assert any("(and 1185 more)" in entry["message"]["text"] for entry in result)
    shown = to_diagnostic("file:///input.json", report.lines, item)
    assert "(and 1185 more)" in shown.message
    assert shown.related_information[-1].message == "and 1145 more"
