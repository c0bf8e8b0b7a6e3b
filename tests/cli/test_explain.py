"""`zoo explain`: every code has a text whose example shows the fault; every key is explained."""

import json
import re
from pathlib import Path

import pytest

from schemas.check.input_file import check_text
from schemas.explain import REMOVED, entries, explain_path
from schemas.input.root import normalized
from schemas.input.start import Start
from schemas.input.view import places


@pytest.mark.parametrize("base", ["single-task", "multi-task"])
def test_the_inputs_that_examples_change_are_good(base, example, workspace):
    found = check_text(example(base, {})).diagnostics
    assert [item for item in found if item.severity != "note"] == []


def test_every_code_has_a_text_and_every_text_a_code():
    """Codes are those of rules, and what else the sources say under a code."""
    root = Path(__file__).parents[2]
    files = [path for room in ("schemas", "cli", "dpa2") for path in (root / room).rglob("*.py")]
    written = {code for path in files for code in re.findall(r'"(ZOO\d{3})"', path.read_text())}
    assert written == set(entries())
    assert all(entry.meaning for entry in entries().values())


def test_every_code_shows_what_is_wrong_and_what_is_right():
    for code, entry in entries().items():
        lines = entry.example().splitlines()
        assert any(line.startswith("wrong: ") for line in lines), code
        assert any(line.startswith("right: ") for line in lines), code


def _in_the_input():
    return [code for code, entry in entries().items() if entry.wrong_text is None]


def _start(options, model):
    """The start that an entry describes, from a checkpoint with the good input's model."""
    if not options:
        return None
    stored = normalized(check_text(model).config.model)
    if "branches" in options:
        stored = {"shared_dict": {}, "model_dict": dict.fromkeys(options["branches"], stored)}
    more = {key: options.get(key) for key in ("branch", "steps")}
    return Start(options["option"], "model.pt", stored, **more)


@pytest.mark.parametrize("code", _in_the_input())
def test_the_wrong_example_has_the_fault_and_the_right_one_has_not(code, example, workspace):
    entry = entries()[code]
    base = example("single-task", {})
    wrong = example(entry.base, entry.changes) if entry.text is None else entry.text
    found = check_text(wrong, "input.json", (), _start(entry.start, base)).diagnostics
    assert code in {item.code for item in found}
    changes = {path: value for path, value in entry.right.items() if value != REMOVED}
    right = entry.right_text or example(entry.base, changes)
    start = entry.start if entry.right_start is None else entry.right_start
    found = check_text(right, "input.json", (), _start(start, base)).diagnostics
    assert code not in {item.code for item in found}


@pytest.mark.parametrize("code", sorted(entries()))
def test_a_code_is_explained(code, zoo):
    result = zoo("explain", code.lower())
    assert result.exit_code == 0
    for title in (code, "Why", "Example", "Fix"):
        assert title in result.stdout
    document = json.loads(zoo("explain", code, "--json").stdout)
    assert set(document) == {"code", "meaning", "why", "example", "fix"}
    assert all(document.values())


def test_a_key_is_explained_with_type_default_unit_and_aliases():
    key = explain_path("model.descriptor.repformer.nsel")
    assert key is not None
    assert (key.type, key.required) == ("a whole number > 0 or `auto`, `auto:FACTOR`", True)
    rcut = explain_path("model.descriptor.repinit.three_body_rcut")
    assert rcut is not None
    assert (rcut.default, rcut.unit) == ("4.0", "Å")
    steps = explain_path("training.numb_steps")
    assert steps is not None
    assert "stop_batch" in steps.aliases
    decay = explain_path("learning_rate.decay_type")
    assert decay is not None
    assert decay.only_for == "wsd"


def test_a_key_is_found_by_its_alias_in_branches_and_in_lists():
    paths = {
        "training.stop_batch": "training.numb_steps",
        "model.model_dict.water.descriptor.repinit.rcut": "model.descriptor.repinit.rcut",
        "training.data_dict.water.training_data.systems.0": "training.training_data.systems",
        "model.shared_dict.dpa2.repinit.rcut": "model.descriptor.repinit.rcut",
        "model.shared_dict.types": "model.shared_dict.types",
    }
    for written, canonical in paths.items():
        key = explain_path(written)
        assert key is not None
        assert key.path == canonical


def test_every_key_can_be_explained():
    for name, homes in places().items():
        for home in homes:
            key = explain_path(f"{home}.{name}" if home else name)
            assert key is not None
            assert key.effect
            assert key.type


def test_a_section_lists_its_keys(zoo):
    result = zoo("explain", "model.descriptor.repinit")
    assert "three_body_rcut" in result.stdout
    document = json.loads(zoo("explain", "--json").stdout)
    assert [key["path"] for key in document["keys"]][:2] == ["model", "learning_rate"]


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("model.descriptor.repinit.nsell", "model.descriptor.repinit.nsel"),
        ("nsel", "model.descriptor.repformer.nsel"),
        ("ZOO1022", "ZOO102"),
        ("model.descriptr", "model.descriptor"),
    ],
)
def test_a_topic_that_does_not_exist_is_answered_with_a_near_one(topic, hint, zoo):
    result = zoo("explain", topic)
    assert result.exit_code != 0
    assert hint in (result.exception.hint or "")
