"""What the checker says of keys, types, texts and overrides, and where."""

import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.base.errors import ConfigError
from schemas.check.input_file import check_file, check_text, checked

REPINIT = "model.descriptor.repinit"


@pytest.mark.parametrize(
    ("code", "path", "hint", "changes"),
    [
        ("ZOO102", f"{REPINIT}.nsell", "did you mean `nsel`?", {f"{REPINIT}.nsell": 1}),
        ("ZOO102", "model.descriptor.sel", "`nsel`", {"model.descriptor.sel": [1]}),
        ("ZOO102", "model.descriptor.repinit_rcut", "inside", {
            "model.descriptor.repinit_rcut": 1}),
        ("ZOO102", "training.start_lr", "`learning_rate`", {"training.start_lr": 1}),
        ("ZOO103", f"{REPINIT}.nsel", None, {f"{REPINIT}.nsel": True}),
        ("ZOO103", f"{REPINIT}.nsel", None, {f"{REPINIT}.nsel": [46, 92]}),
        ("ZOO107", f"{REPINIT}.nsel", "write 120", {f"{REPINIT}.nsel": "120"}),
        ("ZOO107", f"{REPINIT}.nsel", "auto:1.2", {f"{REPINIT}.nsel": "auto:x"}),
        ("ZOO104", f"{REPINIT}.nsel", None, {f"{REPINIT}.nsel": 0}),
        ("ZOO103", f"{REPINIT}.neuron.0", None, {f"{REPINIT}.neuron": [25.5, 50]}),
        ("ZOO103", f"{REPINIT}.use_three_body", "write true", {
            f"{REPINIT}.use_three_body": "true"}),
        ("ZOO103", "training.numb_steps", "write 1000000", {"training.numb_steps": 1e6}),
        ("ZOO103", "training.training_data.systems", None, {"training.training_data.systems": 3}),
        ("ZOO105", "model.descriptor.precision", "float64", {"model.descriptor.precision": "fp64"}),
        ("ZOO105", f"{REPINIT}.activation_function", "`silu`", {
            f"{REPINIT}.activation_function": "sillu"}),
        ("ZOO105", "learning_rate.type", "`cosine`", {"learning_rate.type": "cosin"}),
        ("ZOO105", "optimizer.type", "Adam", {"optimizer.type": "AdamX"}),
        ("ZOO105", "training.training_data.batch_size", "`auto`", {
            "training.training_data.batch_size": "atuo"}),
        ("ZOO107", "training.training_data.batch_size", "auto:32", {
            "training.training_data.batch_size": "auto:abc"}),
        ("ZOO106", "training.stop_batch", "numb_steps", {"training.stop_batch": 5}),
        ("ZOO108", "model.descriptor.type", "dpa2", {"model.descriptor.type": "se_e2_a"}),
        ("ZOO108", "loss.type", "ener", {"loss": {"type": "dos"}}),
        ("ZOO110", "training.warmup_steps", "learning_rate", {"training.warmup_steps": 5}),
        ("ZOO110", "training.opt_type", "optimizer.type", {"training.opt_type": "AdamW"}),
        ("ZOO112", f"{REPINIT}._nsel", "write `nsel`", {f"{REPINIT}._nsel": 5}),
    ],
)  # fmt: skip
def test_a_fault_of_a_key_or_value_is_explained(code, path, hint, changes, check):
    found = [item for item in check(changes).diagnostics if item.code == code]
    assert [".".join(map(str, item.path)) for item in found] == [path] * len(found)
    assert found
    assert hint is None or hint in (found[0].hint or "")


@pytest.mark.parametrize("key", ["model", "learning_rate", "loss", "training"])
def test_a_missing_section_is_named(key, water, workspace):
    del water[key]
    found = check_text(json.dumps(water)).diagnostics
    assert ("ZOO101", (key,)) in {(item.code, item.path) for item in found}


def test_a_misspelt_required_key_is_reported_once(faults, removed):
    found = faults({f"{REPINIT}.nsel": removed, f"{REPINIT}.nsell": 100})
    assert found == [("error", "ZOO102", f"{REPINIT}.nsell")]


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_the_span_covers_exactly_the_fault(kind, workspace):
    texts = {
        "json": '{\n\t"model": {"dësc": 1, "nsell": 2}}',
        "yaml": "# é\nmodel: {type: standard, nsell: 2}\n",
    }
    text = texts[kind]
    report = check_text(text, f"input.{kind}")
    (item,) = [item for item in report.diagnostics if item.path == ("model", "nsell")]
    assert item.span is not None
    line = text.splitlines()[item.span.line - 1]
    assert line[item.span.col - 1 : item.span.end_col - 1].strip('"') == "nsell"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("", "ZOO002", None),
        ("[1]", "ZOO003", 1),
        ('{"loss": {},\n "loss": {}}', "ZOO004", 2),
        ('{"loss":\n {"start_pref_e": NaN}}', "ZOO005", 2),
        ('{"loss":\n {"start_pref_e": 1e400}}', "ZOO005", 2),
        ('\ufeff{"loss": {}}', "ZOO006", 1),
        ('{"loss": {},\n}', "ZOO001", 1),
        ('{"loss":\n {"use_huber": True}}', "ZOO001", 2),
        ("{\n'loss': {}}", "ZOO001", 2),
        ("{\n\u201closs\u201d: {}}", "ZOO001", 2),
        ("<!DOCTYPE html>", "ZOO001", 1),
        ('{"loss": {}', "ZOO001", 1),
        ('{"loss": "' + "[" * 9 + '\\ud800"}', "ZOO001", 1),
        ("[" * 100_000, "ZOO001", None),
    ],
)
def test_a_fault_of_the_text_is_explained(text, code, line, workspace):
    found = [item for item in check_text(text).diagnostics if item.code == code]
    assert found
    assert line is None or (found[0].span is not None and found[0].span.line == line)


def test_faults_behind_a_trailing_comma_are_found_too(workspace):
    text = '{"loss": {"use_huber": 1,}, "extra": 1}'
    codes = {item.code for item in check_text(text).diagnostics}
    assert {"ZOO001", "ZOO103", "ZOO102"} <= codes


def test_diagnostics_are_sorted_by_position(check):
    found = check({"model.x": 1, "training.y": 1, f"{REPINIT}.z": 1}).diagnostics
    assert [item.path[-1] for item in found] == ["z", "x", "y"]


def test_yaml_and_json_give_the_same_configuration(workspace, water):
    from_json = check_text(json.dumps(water)).config
    assert from_json is not None
    assert check_text(yaml.safe_dump(water), "input.yaml").config == from_json


def test_a_number_that_yaml_reads_as_a_text_is_explained(workspace):
    found = check_text("learning_rate: {start_lr: 1e-3}", "input.yaml").diagnostics
    (item,) = [item for item in found if item.code == "ZOO103"]
    assert item.hint == "write 0.001"


def test_another_kind_of_model_is_refused_once(faults):
    changes = {"model.fitting_net.type": "dos", "loss": {"type": "dos"}}
    changes["model.fitting_net.numb_dos"] = 3
    assert [path for _, _, path in faults(changes)] == ["model.fitting_net.type"]


def test_overrides_are_values_or_texts_and_checked(check):
    overrides = ("training.numb_steps=7", "training.save_ckpt=best", f"{REPINIT}.neuron.2=64")
    config = check(overrides=overrides).config
    assert config is not None
    assert (config.training.numb_steps, config.training.save_ckpt) == (7, "best")
    assert config.model.descriptor.repinit.neuron[-1] == 64


def test_an_override_replaces_a_key_under_its_other_name(check, removed):
    changes = {"training.numb_steps": removed, "training.stop_batch": 5}
    config = check(changes, ("training.numb_steps=7",)).config
    assert config is not None
    assert config.training.numb_steps == 7


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("training.numb_stepz=7", "ZOO102"),
        ("training.numb_steps=seven", "ZOO103"),
        ("training.numb_steps", "ZOO008"),
        ("training.numb_steps.x=1", "ZOO008"),
        ("model.type_map.9=O", "ZOO008"),
        ("=1", "ZOO008"),
    ],
)
def test_a_bad_override_is_refused(override, code, check):
    report = check(overrides=(override,))
    assert not report.ok
    assert [item.code for item in report.diagnostics] == [code]
    assert report.diagnostics[0].span is None or code == "ZOO008"


def test_a_faulty_input_is_refused_with_every_diagnostic(tmp_path, workspace, water):
    water["model"]["x"] = water["y"] = 1
    path = tmp_path / "input.json"
    path.write_text(json.dumps(water))
    with pytest.raises(ConfigError, match="1 more") as caught:
        checked(check_file(path))
    assert len(caught.value.diagnostics) == 2


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    assert [item.code for item in check_file(path).diagnostics] == ["ZOO009"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_no_input_makes_the_checker_fall_over(data, water, workspace):
    document = json.loads(json.dumps(water))
    section = document
    while isinstance(section, dict) and section:
        key = data.draw(st.sampled_from(sorted(section)))
        if not isinstance(section[key], dict) or data.draw(st.booleans()):
            section[key] = data.draw(JUNK)
            break
        section = section[key]
    text = json.dumps(document)
    cut = data.draw(st.integers(0, len(text)) | st.just(len(text)))
    report = check_text(text[:cut])
    assert report.ok == (report.config is not None)
    json.dumps([item.document() for item in report.diagnostics]).encode()
