"""Inputs and the checkpoints from which they start."""

import json
from pathlib import Path

import pytest

from schemas.check.input_file import check_text
from schemas.check.start import check_start
from schemas.input.root import normalized
from schemas.input.start import Start, targets_of

TWO_BRANCHES = json.loads((Path(__file__).parent / "multitask_by_deepmd.json").read_text())
DESCRIPTOR = "model.descriptor"
FITTING = "model.fitting_net"
TYPES = "model.type_map"
HEAD = "model.finetune_head"
SCAN_HEAD = "model.model_dict.scan.finetune_head"
LOADED = ("note", "ZOO604", "--finetune")
EMPTY = {DESCRIPTOR: {}, FITTING: {}}
RESTART, INIT = {"option": "--restart"}, {"option": "--init-model"}
PRETRAINED = {"use_pretrain_script": True}


@pytest.fixture
def models(check):
    """Model sections of checkpoints: trained with the unchanged input, of two branches, others."""
    single = normalized(check().config.model)
    other = {**single, "fitting_net": {**single["fitting_net"], "neuron": [12]}}
    other["model_branch_alias"] = ["cheap"]
    two = TWO_BRANCHES["cases"]["as it is"]["config"]["model"]
    return {
        "single": single,
        "multi": {"model_dict": {"scan": single, "pbe": other}, "shared_dict": {}},
        "dpa3": {**single, "descriptor": {"type": "dpa3"}},
        "two": two,
        "pbe": {"model_dict": {"pbe": two["model_dict"]["pbe"]}},
    }


@pytest.fixture
def found(models, with_changes, workspace):
    """Severity, code and path of every finding of a changed input that starts from a model."""

    def run(name, changes, option="--finetune", **more):
        base = TWO_BRANCHES["input"] if name in ("two", "pbe") else None
        start = Start(option, "model.pt", models[name], **more)
        text = json.dumps(with_changes(changes, base), indent=2)
        report = check_text(text, "input.json", (), start)
        return [
            (item.severity, item.code, ".".join(map(str, item.path))) for item in report.diagnostics
        ]

    return run


MAY_DIFFER = {
    f"{DESCRIPTOR}.seed": 99,
    f"{DESCRIPTOR}.trainable": False,
    f"{DESCRIPTOR}.repformer.update_residual": 0.5,
    f"{FITTING}.seed": 99,
    f"{DESCRIPTOR}.repformer.attn1_hidden": 16,
}
LAYERS = {f"{DESCRIPTOR}.repformer.nlayers": 3}
ALL = [
    ("single", {}, {}, [LOADED]),
    ("single", MAY_DIFFER, {}, [LOADED]),
    ("single", EMPTY, PRETRAINED, [LOADED]),
    ("multi", {}, {"branch": "scan"}, [LOADED]),
    ("multi", {}, {"branch": "RANDOM"}, [LOADED]),
    ("multi", {}, {"branch": "scna"}, [("error", "ZOO611", "--branch")]),
    ("multi", {HEAD: "scna"}, {}, [("error", "ZOO611", HEAD)]),
    ("single", {}, {"branch": "scan"}, [("error", "ZOO611", "--branch")]),
    ("two", {}, {}, [LOADED, LOADED]),
    ("pbe", {SCAN_HEAD: "pbe"}, {}, [LOADED, LOADED]),
    ("single", {}, {**RESTART, "steps": 5}, []),
    ("single", {}, {**RESTART, "steps": 10000}, [("warning", "ZOO614", "--restart")]),
    ("single", LAYERS, RESTART, [("error", "ZOO602", "--restart")]),
    ("single", {TYPES: ["H", "O"]}, RESTART, [("error", "ZOO603", TYPES)]),
    ("multi", {}, INIT, [("error", "ZOO615", "--init-model")]),
    ("single", {DESCRIPTOR: {}, FITTING: {"neuron": [3]}}, {**INIT, **PRETRAINED}, []),
]
"""Model of the checkpoint, changes of the input, the start, and all that is found."""
AMONG_OTHERS = [
    *(
        ("single", {path: value}, {}, ("error", "ZOO602", path))
        for path, value in {
            f"{DESCRIPTOR}.repinit.rcut": 6.5,
            f"{DESCRIPTOR}.repinit.nsel": 110,
            f"{DESCRIPTOR}.repinit.three_body_sel": 41,
            f"{DESCRIPTOR}.repformer.nlayers": 3,
            f"{DESCRIPTOR}.use_econf_tebd": True,
            f"{FITTING}.neuron": [24],
        }.items()
    ),
    ("single", {f"{DESCRIPTOR}.precision": "float32", f"{FITTING}.precision": "single"}, {},
     ("warning", "ZOO602", f"{DESCRIPTOR}.precision")),
    ("single", {f"{DESCRIPTOR}.repinit.nsel": "auto"}, {},
     ("warning", "ZOO606", f"{DESCRIPTOR}.repinit.nsel")),
    ("multi", {}, {"branch": "cheap"}, ("error", "ZOO602", f"{FITTING}.neuron")),
    ("multi", {}, {}, ("warning", "ZOO612", "--branch")),
    ("pbe", {}, {}, ("warning", "ZOO612", "model.model_dict.scan")),
    ("pbe", {SCAN_HEAD: "bpe"}, {}, ("error", "ZOO611", SCAN_HEAD)),
    ("two", {}, {"branch": "pbe"}, ("error", "ZOO611", "--branch")),
    ("dpa3", {}, {}, ("error", "ZOO601", "--finetune")),
]  # fmt: skip
"""The same, with one of the findings."""


@pytest.mark.parametrize(("name", "changes", "start", "expected"), ALL)
def test_all_that_is_found(name, changes, start, expected, found):
    assert found(name, changes, **start) == expected


@pytest.mark.parametrize(("name", "changes", "start", "expected"), AMONG_OTHERS)
def test_it_is_found(name, changes, start, expected, found):
    assert expected in found(name, changes, **start)


@pytest.mark.parametrize(
    ("types", "severity"), [(["H", "O"], "note"), (["O"], "note"), (["O", "H", "Na"], "warning")]
)
def test_the_type_maps_are_compared_by_name(found, types, severity):
    assert [item[0] for item in found("single", {TYPES: types}) if item[1] == "ZOO603"] == [
        severity
    ]


def test_a_type_map_without_a_common_element_is_one_fault(found):
    errors = [item for item in found("single", {TYPES: ["Fe"]}) if item[0] == "error"]
    assert errors == [("error", "ZOO404", TYPES)]  # of the data as of the checkpoint
    changes = {TYPES: ["Fe"], "training.training_data.systems": "nowhere"}
    changes["training.validation_data.systems"] = "nowhere"
    assert ("error", "ZOO603", TYPES) in found("single", changes)


def test_an_empty_descriptor_needs_the_pretrain_script(found):
    errors = [item for item in found("single", EMPTY) if item[0] == "error"]
    assert errors == [("error", "ZOO605", DESCRIPTOR)]


def test_a_checked_input_can_be_compared_with_a_model(check, models):
    config = check({f"{DESCRIPTOR}.repinit.rcut": 6.5}).config
    findings = check_start(targets_of(config), Start("--finetune", "model.pt", models["single"]))
    assert [item.code for item in findings if item.severity == "error"] == ["ZOO602"]
