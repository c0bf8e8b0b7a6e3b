"""What a person would call one fault is one diagnostic that names every place."""

import json

import pytest

from schemas.check.input_file import apply_edits, check_text
from schemas.check.report import HERE_TOO

DESCRIPTOR = "model.descriptor"


@pytest.fixture
def errors(with_changes, workspace):
    """Errors of the input with changes."""

    def run(changes, base=None):
        text = json.dumps(with_changes(changes, base), indent=2)
        report = check_text(text)
        return text, [item for item in report.diagnostics if item.severity == "error"]

    return run


def where(item):
    return ".".join(map(str, item.path))


def labels(item):
    return [place.label for place in item.related]


def test_items_of_one_wrong_type_are_one_fault_with_one_fix(errors):
    text, (item,) = errors({"model.fitting_net.neuron": ["25", "50", "100"]})
    assert (item.code, where(item)) == ("ZOO103", "model.fitting_net.neuron.0")
    assert "(and 2 more)" in item.message
    assert labels(item)[0] == '`neuron[1]` must be a whole number, not "50": write 50'
    fixed = json.loads(apply_edits(text, item.fix.edits))
    assert fixed["model"]["fitting_net"]["neuron"] == [25, 50, 100]


def test_items_of_different_lists_are_apart(errors):
    _, found = errors(
        {"model.fitting_net.neuron": ["25"], f"{DESCRIPTOR}.repinit.neuron": [8, "16", 32]}
    )
    assert len(found) == 2


def test_names_that_are_no_elements_are_one_fault(errors):
    text, (item,) = errors({"model.type_map": ["oxygen", "h"]})
    assert (item.code, where(item)) == ("ZOO242", "model.type_map.0")
    fixed = json.loads(apply_edits(text, item.fix.edits))
    assert fixed["model"]["type_map"] == ["O", "H"]


def test_keys_of_another_descriptor_are_one_fault(errors):
    _, (item,) = errors({f"{DESCRIPTOR}.sel": [46, 92], f"{DESCRIPTOR}.neuron": [8, 16]})
    assert (item.code, where(item)) == ("ZOO102", f"{DESCRIPTOR}.sel")
    assert "`sel` is a key of `se_e2_a`" in item.message
    assert len(item.related) == 1


def test_a_descriptor_of_another_kind_called_dpa2_is_one_fault(errors):
    section = {"type": "dpa2", "sel": [46, 92], "rcut": 6.0, "rcut_smth": 0.5, "neuron": [8]}
    _, (item,) = errors({DESCRIPTOR: section})
    assert item.code == "ZOO102"


def test_keys_outside_their_block_are_moved_together(errors):
    text, (item,) = errors({f"{DESCRIPTOR}.three_body_rcut": 4.0, f"{DESCRIPTOR}.tebd_dim": 4})
    assert "it belongs into `model.descriptor.repinit`" in item.hint
    assert item.fix is None  # repinit has one of them already
    text, (item,) = errors({"training.start_pref_v": 0.1, "training.limit_pref_v": 1.0})
    fixed = json.loads(apply_edits(text, item.fix.edits))
    assert fixed["loss"]["start_pref_v"] == 0.1
    assert fixed["loss"]["limit_pref_v"] == 1.0


def test_independent_slips_are_apart(errors):
    _, found = errors({f"{DESCRIPTOR}.precison": "float64", f"{DESCRIPTOR}.sede": 1})
    assert len(found) == 2


def test_single_quotes_are_one_fault_with_one_fix(with_changes, workspace):
    text = json.dumps(with_changes({}), indent=2)
    (item,) = [x for x in check_text(text.replace('"', "'")).diagnostics if x.severity == "error"]
    assert item.code == "ZOO001"
    assert "more)" in item.message
    assert json.loads(apply_edits(text.replace('"', "'"), item.fix.edits)) == json.loads(text)


def test_the_layout_of_version_1_is_one_warning(with_changes, workspace):
    document = with_changes({})
    training = document["training"]
    training |= {"systems": ["data/a"], "batch_size": 1, "set_prefix": "set", "opt_type": "Adam"}
    training |= {"weight_decay": 0.0}
    del training["training_data"]
    text = json.dumps(document, indent=2)
    found = [item for item in check_text(text).diagnostics if item.code in ("ZOO110", "ZOO111")]
    assert [where(item) for item in found] == ["training.systems", "training.opt_type"]
    fixed = text
    for item in found:
        fixed = apply_edits(text, item.fix.edits)
        assert json.loads(fixed) != json.loads(text)


def test_a_low_precision_is_one_warning(with_changes, workspace):
    changes = {f"{DESCRIPTOR}.precision": "bfloat16", "model.fitting_net.precision": "bfloat16"}
    report = check_text(json.dumps(with_changes(changes)))
    (item,) = [item for item in report.diagnostics if item.code == "ZOO226"]
    assert labels(item) == [HERE_TOO]


def test_broken_systems_below_one_folder_are_one_fault(errors, workspace):
    for name in ("a", "b"):
        (workspace / "data" / name / "type_map.raw").write_text("")
    _, (item,) = errors({"training.training_data.systems": ["data"]})
    assert (item.code, where(item)) == ("ZOO403", "training.training_data.systems.0")
    assert any("data/b" in label for label in labels(item))
    _, found = errors({"training.training_data.systems": ["data/a", "data/b"]})
    assert [where(item) for item in found] == [
        "training.training_data.systems.0",
        "training.training_data.systems.1",
    ]


def test_a_wrong_number_of_types_is_said_once(errors, workspace):
    (workspace / "data" / "a" / "type.raw").write_text("0\n1\n")
    _, (item,) = errors({"training.training_data.systems": "data/a"})
    assert "type.raw lists 2 atoms" in item.message


def test_a_loss_that_does_not_fit_is_one_fault(errors):
    _, (item,) = errors({"model.fitting_net.type": "dos", "loss.type": "ener"})
    assert where(item) == "loss.type"
    assert labels(item) == ["the fitting net"]
    _, (item,) = errors({"model.fitting_net.type": "dos"})
    assert where(item) == "model.fitting_net.type"


def test_related_places_are_in_the_document_only_if_there_are_some(errors):
    _, (item,) = errors({"model.fitting_net.neuron": ["25", "50"]})
    (place,) = item.document()["related"]
    assert place["span"]["line"] == item.span.line + 1
    _, (item,) = errors({"model.fitting_net.neuron": ["25"]})
    assert "related" not in item.document()


def test_one_fix_removes_the_same_key_of_every_branch(with_changes, workspace):
    model = {"model_dict": {name: {"type_map": ["O", "H"]} for name in "abcd"}}
    section = {"systems": "data/a", "set_prefix": "set"}
    data = {name: {"training_data": section} for name in "abcd"}
    text = json.dumps({"model": model, "training": {"data_dict": data}}, indent=2)
    (item,) = [x for x in check_text(text).diagnostics if "set_prefix" in x.message]
    assert "set_prefix" not in apply_edits(text, item.fix.edits)
