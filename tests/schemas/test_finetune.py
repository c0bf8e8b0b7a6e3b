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
REMOVE = "<remove>"


@pytest.fixture
def single(check):
    """The model section of a checkpoint trained with the unchanged input."""
    return normalized(check().config.model)


@pytest.fixture
def multi(single):
    other = {**single, "fitting_net": {**single["fitting_net"], "neuron": [12]}}
    other["model_branch_alias"] = ["cheap"]
    return {"model_dict": {"scan": single, "pbe": other}, "shared_dict": {}}


@pytest.fixture
def found(with_changes, workspace):
    """Severity, code and path of every finding of a changed input that starts from a model."""

    def run(model, changes=None, option="--finetune", base=None, **more):
        document = with_changes(changes or {}, base)
        start = Start(option, "model.pt", model, **more)
        report = check_text(json.dumps(document, indent=2), "input.json", (), start)
        return [
            (item.severity, item.code, ".".join(map(str, item.path))) for item in report.diagnostics
        ]

    return run


LOADED = ("note", "ZOO604", "--finetune")


def test_the_same_model_is_only_noted(found, single):
    assert found(single) == [LOADED]


def test_seeds_initial_values_and_trainable_may_differ(found, single):
    changes = {
        f"{DESCRIPTOR}.seed": 99,
        f"{DESCRIPTOR}.trainable": False,
        f"{DESCRIPTOR}.repformer.update_residual": 0.5,
        f"{FITTING}.seed": 99,
        f"{DESCRIPTOR}.repformer.attn1_hidden": 16,
    }
    assert found(single, changes) == [LOADED]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{DESCRIPTOR}.repinit.rcut", 6.5),
        (f"{DESCRIPTOR}.repinit.nsel", 110),
        (f"{DESCRIPTOR}.repinit.three_body_sel", 41),
        (f"{DESCRIPTOR}.repformer.nlayers", 3),
        (f"{DESCRIPTOR}.use_econf_tebd", True),
        (f"{FITTING}.neuron", [24]),
    ],
)
def test_another_architecture_is_an_error_at_its_key(found, single, path, value):
    assert ("error", "ZOO602", path) in found(single, {path: value})


def test_another_precision_is_a_warning(found, single):
    path = f"{DESCRIPTOR}.precision"
    changes = {path: "float32", "model.fitting_net.precision": "single"}
    assert ("warning", "ZOO602", path) in found(single, changes)


def test_auto_selections_are_a_warning(found, single):
    path = f"{DESCRIPTOR}.repinit.nsel"
    assert ("warning", "ZOO606", path) in found(single, {path: "auto"})


@pytest.mark.parametrize(
    ("types", "severity"),
    [(["H", "O"], "note"), (["O"], "note"), (["O", "H", "Na"], "warning")],
)
def test_the_type_maps_are_compared_by_name(found, single, types, severity):
    kinds = [item[0] for item in found(single, {"model.type_map": types}) if item[1] == "ZOO603"]
    assert kinds == [severity]


def test_a_type_map_without_a_common_element_is_one_fault(found, single):
    errors = [item for item in found(single, {"model.type_map": ["Fe"]}) if item[0] == "error"]
    assert errors == [("error", "ZOO404", "model.type_map")]  # of the data as of the checkpoint
    changes = {"model.type_map": ["Fe"], "training.training_data.systems": "nowhere"}
    changes["training.validation_data.systems"] = "nowhere"
    errors = [item for item in found(single, changes) if item[0] == "error"]
    assert ("error", "ZOO603", "model.type_map") in errors


def test_an_empty_descriptor_needs_the_pretrain_script(found, single):
    empty = {DESCRIPTOR: {}, FITTING: {}}
    errors = [item for item in found(single, empty) if item[0] == "error"]
    assert errors == [("error", "ZOO605", DESCRIPTOR)]
    assert found(single, empty, use_pretrain_script=True) == [LOADED]


def test_a_branch_is_chosen_by_name_or_alias(found, multi):
    assert found(multi, branch="scan") == [LOADED]
    errors = found(multi, branch="cheap")
    assert ("error", "ZOO602", f"{FITTING}.neuron") in errors


def test_no_branch_is_an_error_unless_random_is_said(found, multi):
    assert ("error", "ZOO612", "--branch") in found(multi)
    assert found(multi, branch="RANDOM") == [LOADED]


def test_an_unknown_branch_is_an_error_where_it_is_asked_for(found, multi, single):
    assert found(multi, branch="scna") == [("error", "ZOO611", "--branch")]
    head = {"model.finetune_head": "scna"}
    assert found(multi, head) == [("error", "ZOO611", "model.finetune_head")]
    assert found(single, branch="scan") == [("error", "ZOO611", "--branch")]


def test_several_branches_start_each_from_its_own(found, multi, with_changes):
    base = TWO_BRANCHES["input"]
    model = TWO_BRANCHES["cases"]["as it is"]["config"]["model"]
    assert found(model, base=base) == [LOADED, LOADED]
    renamed = {"model_dict": {"pbe": model["model_dict"]["pbe"]}}
    assert ("error", "ZOO612", "model.model_dict.scan") in found(renamed, base=base)
    head = {"model.model_dict.scan.finetune_head": "pbe"}
    assert found(renamed, head, base=base) == [LOADED, LOADED]
    wrong = {"model.model_dict.scan.finetune_head": "bpe"}
    path = "model.model_dict.scan.finetune_head"
    assert ("error", "ZOO611", path) in found(renamed, wrong, base=base)
    assert ("error", "ZOO611", "--branch") in found(model, base=base, branch="pbe")


def test_a_restart_needs_the_same_model_and_steps(found, single, multi):
    assert found(single, option="--restart", steps=5) == []
    assert found(single, option="--restart", steps=10000) == [("warning", "ZOO614", "--restart")]
    other = {f"{DESCRIPTOR}.repformer.nlayers": 3}
    assert found(single, other, option="--restart") == [("error", "ZOO602", "--restart")]
    swapped = {"model.type_map": ["H", "O"]}
    assert found(single, swapped, option="--restart") == [("error", "ZOO603", "model.type_map")]
    assert found(multi, option="--init-model") == [("error", "ZOO615", "--init-model")]


def test_init_model_can_take_over_the_whole_model(found, single):
    changes = {"model.descriptor": {}, FITTING: {"neuron": [3]}}
    assert found(single, changes, "--init-model", use_pretrain_script=True) == []


def test_a_model_of_another_kind_is_refused(found, single):
    other = {**single, "descriptor": {"type": "dpa3"}}
    assert ("error", "ZOO601", "--finetune") in found(other)


def test_a_checked_input_can_be_compared_with_a_model(check, single):
    config = check({f"{DESCRIPTOR}.repinit.rcut": 6.5}).config
    findings = check_start(targets_of(config), Start("--finetune", "model.pt", single))
    assert [item.code for item in findings if item.severity == "error"] == ["ZOO602"]
