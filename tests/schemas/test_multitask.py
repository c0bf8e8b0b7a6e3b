"""Multi-task inputs: read as deepmd-kit reads them; each fault is found once, where it is."""

import json
from pathlib import Path

import pytest

from schemas.check.input_file import check_text
from schemas.input.root import MultiTaskInput, normalized

RECORDED = json.loads((Path(__file__).parent / "multitask_by_deepmd.json").read_text())
TWO_BRANCHES = RECORDED["input"]
CASES = RECORDED["cases"]
DESCRIPTOR = TWO_BRANCHES["model"]["shared_dict"]["dpa2"]
BRANCHES = "model.model_dict"
SHARED = "model.shared_dict"
DATA = "training.data_dict"
BRANCH_NAMES = list(TWO_BRANCHES["model"]["model_dict"])
REMOVE = "<remove>"


@pytest.fixture
def report_of(workspace, with_changes):
    return lambda changes: check_text(json.dumps(with_changes(changes, TWO_BRANCHES), indent=2))


@pytest.fixture
def faults_of(report_of):
    """Severity, code and path of every warning and error of the changed input."""
    return lambda changes: [
        (item.severity, item.code, ".".join(map(str, item.path)))
        for item in report_of(changes).diagnostics
        if item.severity != "note"
    ]


@pytest.mark.parametrize("name", CASES)
def test_the_normalised_input_and_its_links_are_those_of_deepmd(name, report_of):
    report = report_of(CASES[name]["changes"])
    assert report.ok, report.diagnostics
    assert normalized(report.config) == CASES[name]["config"]
    links: dict[str, list[list[object]]] = {}
    for link in report.config.links:
        links.setdefault(link.name, []).append([link.component, link.branch, link.level])
    assert links == CASES[name]["links"]


def test_a_branch_has_everything_that_is_its_own(report_of):
    config = report_of({f"{DATA}.scan.stat_file": "scan.hdf5"}).config
    assert isinstance(config, MultiTaskInput)
    assert list(config.branches) == ["pbe", "scan"]
    scan = config.branches["scan"]
    assert (scan.probability, scan.epochs, scan.data.stat_file) == (3, None, "scan.hdf5")
    assert scan.model.descriptor == config.branches["pbe"].model.descriptor
    assert config.branches["pbe"].loss.start_pref_f == 100
    assert {link.owner for link in config.links} == {"pbe"}
    assert list(config.shared_dict) == ["elements", "dpa2"]


def test_the_owner_has_the_lowest_level(report_of):
    config = report_of(CASES["shared fitting net, level 1, aliases"]["changes"]).config
    owners = {link.name: link.owner for link in config.links}
    assert owners == {"dpa2": "scan", "fit": "pbe"}


FAULTS_IN_PLACE = [
    ("error", "ZOO501", "loss_dict", REMOVE),
    ("error", "ZOO501", DATA, REMOVE),
    ("error", "ZOO501", f"{BRANCHES}.pbe", 3),
    ("error", "ZOO502", "training.training_data", {}),
    ("error", "ZOO502", "training.numb_epoch", 3),
    ("error", "ZOO502", "learning_rate_dict", {}),
    ("error", "ZOO502", f"{DATA}.pbe.systems", "data/a"),
    ("error", "ZOO503", "training.model_prob.sacn", 1),
    ("error", "ZOO506", "training.numb_steps", REMOVE),
    ("error", "ZOO506", "training.num_epoch_dict", {"pbe": 1, "scan": 1}),
    ("error", "ZOO507", "training.model_prob", {"pbe": 0, "scan": 0}),
    ("warning", "ZOO507", "training.model_prob.pbe", 0),
    ("error", "ZOO104", "training.model_prob.pbe", -1),
    ("error", "ZOO509", "training.zero_stage", 1),
    ("error", "ZOO510", f"{BRANCHES}.scan.data_stat_protect", 0.1),
    ("error", "ZOO521", SHARED, REMOVE),
    ("error", "ZOO521", f"{BRANCHES}.scan.descriptor", "dpa3"),
    ("error", "ZOO521", f"{BRANCHES}.scan.descriptor", "elements"),
    ("error", "ZOO522", f"{BRANCHES}.scan.descriptor", "dpa2:2"),
    ("error", "ZOO522", f"{BRANCHES}.scan.descriptor", "dpa2:"),
    ("error", "ZOO522", f"{BRANCHES}.scan.descriptor", "dpa2:-1"),
    ("error", "ZOO522", f"{BRANCHES}.scan.type_map", "elements:0"),
    ("error", "ZOO523", f"{BRANCHES}.scan.type_map", ["H", "O"]),
    ("warning", "ZOO524", f"{SHARED}.spare", {"neuron": [3]}),
    ("error", "ZOO541", "model.descriptor", {"type": "dpa2"}),
    ("warning", "ZOO541", "model.descriptor", "dpa2"),
    ("error", "ZOO104", f"{SHARED}.dpa2.repinit.rcut", -1),
    ("error", "ZOO102", f"{SHARED}.dpa2.repinit.rcutt", 1),
    ("error", "ZOO101", f"{SHARED}.dpa2.repformer", REMOVE),
    ("error", "ZOO204", f"{SHARED}.dpa2.repformer.rcut", 6.5),
    ("error", "ZOO301", "learning_rate.stop_lr", 1.0),
    ("warning", "ZOO613", f"{BRANCHES}.pbe.finetune_head", "pbe"),
]
"""A value at a path is a fault there."""
FAULTS_FROM_AFAR = [
    ("error", "ZOO501", BRANCHES, {BRANCHES: REMOVE, "model.descriptor": "dpa2"}),
    ("error", "ZOO502", "loss", {"loss": {}, "loss_dict": REMOVE}),
    ("error", "ZOO503", "loss_dict", {"loss_dict.scan": REMOVE}),
    ("error", "ZOO503", DATA, {f"{DATA}.scan": REMOVE}),
    ("error", "ZOO503", "training.model_prob", {"training.model_prob.scan": REMOVE}),
    ("error", "ZOO503", "loss_dict.scna", {"loss_dict.scan": REMOVE, "loss_dict.scna": {}}),
    ("warning", "ZOO544", "training.model_prob.scan", {"training.model_prob.pbe": 1e9}),
    ("error", "ZOO505", f"{BRANCHES}.scan.model_branch_alias.0",
     {f"{BRANCHES}.scan.model_branch_alias": [" "]}),
    ("error", "ZOO505", f"{BRANCHES}.scan.model_branch_alias.0",
     {f"{BRANCHES}.scan.model_branch_alias": ["pbe"]}),
    ("error", "ZOO509", "validating.full_validation", {"validating": {"full_validation": True}}),
    ("error", "ZOO523", f"{BRANCHES}.scan.type_map",
     {f"{SHARED}.other": ["H", "O"], f"{BRANCHES}.scan.type_map": "other"}),
    ("warning", "ZOO527", f"{SHARED}.fit.dim_case_embd",
     {f"{SHARED}.fit": {"neuron": [3]}, f"{BRANCHES}.pbe.fitting_net": "fit",
      f"{BRANCHES}.scan.fitting_net": "fit"}),
    ("error", "ZOO527", f"{BRANCHES}.scan.fitting_net.dim_case_embd",
     {f"{BRANCHES}.pbe.fitting_net.dim_case_embd": 2}),
    ("error", "ZOO108", f"{SHARED}.dpa2.type", {f"{SHARED}.dpa2": {"type": "dpa3"}}),
    ("error", "ZOO401", f"{DATA}.pbe.training_data.systems.0",
     {f"{DATA}.pbe.training_data.systems": ["no"]}),
    ("error", "ZOO527", f"{SHARED}.fit.dim_case_embd",
     {f"{SHARED}.fit": {"dim_case_embd": 1}, f"{BRANCHES}.pbe.fitting_net": "fit",
      f"{BRANCHES}.scan.fitting_net": "fit"}),
    ("error", "ZOO523", f"{BRANCHES}.pbe.type_map",
     {f"{BRANCHES}.pbe.type_map": ["O", "H"], f"{BRANCHES}.scan.type_map": ["O", "H"],
      f"{SHARED}.elements": REMOVE}),
    ("error", "ZOO502", "model.fitting_net_dict",
     {BRANCHES: REMOVE, SHARED: REMOVE, "model.fitting_net_dict": {"pbe": {}},
      "model.type_map": ["O", "H"], "model.descriptor": DESCRIPTOR}),
]  # fmt: skip
"""Changes are a fault at a path."""
FAULTS = [
    *((severity, code, path, {path: value}) for severity, code, path, value in FAULTS_IN_PLACE),
    *FAULTS_FROM_AFAR,
]


@pytest.mark.parametrize(("severity", "code", "path", "changes"), FAULTS)
def test_a_fault_is_found_once_where_it_is_written(severity, code, path, changes, faults_of):
    assert faults_of(changes) == [(severity, code, path)]


def test_everything_at_level_1_is_a_warning_one_branch_a_note(report_of, faults_of):
    one = {f"{BRANCHES}.scan.descriptor": "dpa2:1"}
    assert faults_of(one) == []
    assert [item.code for item in report_of(one).diagnostics] == ["ZOO525"]
    both = {**one, f"{BRANCHES}.pbe.descriptor": "dpa2:1"}
    assert faults_of(both) == [("warning", "ZOO525", f"{BRANCHES}.pbe.descriptor")]


def test_equal_copies_are_noted_and_not_linked(report_of):
    changes = {f"{BRANCHES}.{name}.descriptor": DESCRIPTOR for name in ("pbe", "scan")}
    report = report_of({**changes, f"{SHARED}.dpa2": REMOVE})
    assert [(item.severity, item.code) for item in report.diagnostics] == [("note", "ZOO526")]
    assert report.config.links == []


def test_a_branch_without_validation_data_is_noted_none_at_all_is_a_warning(report_of, faults_of):
    one = {f"{DATA}.scan.validation_data": REMOVE}
    found = [(item.severity, item.code) for item in report_of(one).diagnostics]
    assert found == [("note", "ZOO508")]
    both = {**one, f"{DATA}.pbe.validation_data": REMOVE}
    assert faults_of(both) == [("warning", "ZOO508", f"{DATA}.pbe.validation_data")]


def test_messages_name_the_section_of_the_file(report_of):
    report = report_of({f"{SHARED}.dpa2.repformer": REMOVE})
    assert "`model.shared_dict.dpa2`" in report.diagnostics[0].message


def test_a_fault_in_a_shared_part_shows_who_shares_it(report_of):
    changes = {f"{SHARED}.dpa2.repinit.rcut": "far", f"{SHARED}.dpa2.repformer.nsell": 1}
    errors = [item for item in report_of(changes).diagnostics if item.severity == "error"]
    assert len(errors) == 2
    for item in errors:
        users = [place.label for place in item.related]
        assert users == [f"shared here, by branch `{name}`" for name in BRANCH_NAMES]


def test_faults_of_several_branches_are_sorted_by_position(report_of):
    report = report_of(
        {
            "training.disp_freq": 0,
            "loss_dict.scan.start_pref_e": -1,
            f"{BRANCHES}.pbe.fitting_net.neuron": [0],
        }
    )
    places = [(item.span.line, item.span.col) for item in report.diagnostics]
    assert len(places) == 3
    assert places == sorted(places)
