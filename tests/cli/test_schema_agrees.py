"""The exported JSON Schema and the models accept the same inputs.

The models say more only where several values play together, which a schema of one value at a
time cannot say. These are the documented differences, and the only ones:

- a key beside another of its names (ZOO106);
- texts of a certain form: activation functions, batch sizes, probability styles;
- the rules (ZOO2xx and above); of those on inputs with branches, the schema knows which
  sections and keys there are (ZOO501, ZOO502) and how a name is written (ZOO522);
- what of `shared_dict` no branch uses (ZOO524): the models cannot know what it is meant to be.
"""

import json
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.check.task import check_branches
from schemas.explain import entries
from schemas.input.branches import Draft
from schemas.input.descriptor import Descriptor
from schemas.input.model import Model
from schemas.input.optimization import EnergyLoss, ExponentialDecay
from schemas.input.root import Input, MultiTaskInput, MultiTaskModel, MultiTaskTraining
from schemas.input.section import Section, aliases
from schemas.input.training import TaskData
from schemas.input.view import child
from schemas.json_schema import INPUT_SCHEMA, committed
from tests.cli.conftest import MULTI_TASK, SINGLE_TASK, changed

FORMS = {"activation_function", "batch_size", "auto_prob"}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.floats(-2, 10, allow_nan=False),
    st.sampled_from(["auto", "auto:1.2", "auto:x", "dpa2", "ener", "exp", "wsd", "", "float64"]),
    st.lists(st.integers(-1, 3), max_size=3),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=2),
    st.dictionaries(st.sampled_from(["type", "_c", "x", "energy"]), st.integers(0, 1), max_size=2),
)


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(INPUT_SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_committed_schemas_are_fresh_and_describe_every_key(validator):
    for file, text in committed().items():
        assert file.read_text(encoding="utf-8") == text, "run `python -m schemas.json_schema`"
    for definition in validator.schema["$defs"].values():
        for name, entry in definition.get("properties", {}).items():
            assert entry.get("description"), name


def sections(section: type[Section], data: dict[str, Any]):
    """Yield every section of the data with its class."""
    yield section, data
    for key, value in data.items():
        inner = child(section, key, value)
        if inner is not None and isinstance(value, dict):
            yield from sections(inner, value)


def change(
    data: st.DataObject, places: list[tuple[type[Section], dict[str, Any]]], keys: list[str]
) -> str:
    """Put a value somewhere into a document; return the canonical name of its key.

    Args:
        data: Draws.
        places: Sections of the document.
        keys: More keys to put into them.
    """
    section, holder = data.draw(st.sampled_from(places))
    names = aliases(section)
    taken = {names.get(key, key) for key in holder}
    others = [alias for alias, name in names.items() if name not in taken]
    key = data.draw(st.sampled_from([*section.model_fields, *others, *keys]))
    if key in holder and data.draw(st.integers(0, 3)) == 0:
        del holder[key]
    elif key in holder or names.get(key, key) not in taken:
        default = section.model_fields[key].default if key in section.model_fields else None
        plain = isinstance(default, (bool, int, float, str, list))
        holder[key] = data.draw(VALUES | st.just(default) if plain else VALUES)
    return names.get(key, key)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_schema_and_models_accept_the_same(data, validator):
    document = json.loads(json.dumps(SINGLE_TASK))
    keys = {
        change(data, list(sections(Input, document)), ["_comment", "unknown"])
        for _ in range(data.draw(st.integers(1, 3)))
    }
    try:
        Input.model_validate(document)
        by_models = True
    except ValidationError:
        by_models = False
    by_schema = validator.is_valid(document)
    if by_models:
        assert by_schema
    elif not keys & FORMS:
        assert not by_schema


BY_SCHEMA = {code for code in entries() if code < "ZOO2" and code != "ZOO113"} | {
    "ZOO501",
    "ZOO502",
    "ZOO522",
}


def branch_sections(document: dict[str, Any]):
    """Yield the sections of an input with branches, each with the class nearest to it."""
    model, training = document["model"], document["training"]
    yield MultiTaskInput, document
    yield MultiTaskModel, model
    yield Model, model
    for branch in model["model_dict"].values():
        yield from sections(Model, branch)
    yield from sections(Descriptor, model["shared_dict"]["descriptor"])
    yield MultiTaskTraining, training
    yield from sections(EnergyLoss, document["loss_dict"]["water"])
    yield from sections(TaskData, training["data_dict"]["water"])
    yield from sections(ExponentialDecay, document["learning_rate"])


@pytest.mark.slow
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_schema_and_models_accept_the_same_branches(data, validator):
    document = json.loads(json.dumps(MULTI_TASK))
    places = list(branch_sections(document))
    keys = ["_comment", "unknown", "$schema"]
    touched = {change(data, places, keys) for _ in range(data.draw(st.integers(1, 3)))}
    _, found = check_branches(Draft(document))
    codes = {item.code for item in found if item.severity == "error"}
    by_schema = validator.is_valid(document)
    if not codes and not any(item.code == "ZOO524" for item in found):
        assert by_schema, list(validator.iter_errors(document))
    elif codes & (BY_SCHEMA - {"ZOO106"}) and not touched & FORMS:
        assert not by_schema, [item for item in found if item.severity == "error"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.model_dict.water.descriptor", "descriptor:2"),
        ("model.model_dict.water.type_map", "elements:0"),
        ("model.model_dict.water.nsel", 1),
        ("model.shared_dict.descriptor.repinit.nsell", 1),
        ("loss_dict.water.start_pref_x", 1),
        ("training.data_dict.water.training_data.system", "x"),
        ("training.training_data", {"systems": "x"}),
        ("training.model_prob", {"water": -1}),
        ("loss", {}),
        ("links", []),
        ("model.model_dict", {}),
    ],
)
def test_faults_of_branches_are_refused(validator, path, value):
    assert not validator.is_valid(changed(MULTI_TASK, {path: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.model_dict.water.descriptor": "descriptor:1"},
        {"model.shared_dict.net": {"neuron": [8]}, "model.model_dict.water.fitting_net": "net"},
        {"training.model_prob": {"_why": "equal", "water": 1, "salt": 1.0}},
        {"$schema": "input.schema.json", "_note": "x", "model.model_dict._note": "two"},
        {"model.fitting_net": {"neuron": [8]}, "model.model_dict.water.fitting_net": "<remove>"},
    ],
)
def test_good_branches_are_accepted(validator, changes):
    assert list(validator.iter_errors(changed(MULTI_TASK, changes))) == []


def test_every_key_given_its_default_is_accepted_by_both(validator):
    document = json.loads(json.dumps(SINGLE_TASK))
    for section, holder in list(sections(Input, document)):
        for name, field in section.model_fields.items():
            plain = isinstance(field.default, (bool, int, float, str, list))
            if (
                plain
                and name not in holder
                and not (isinstance(field.default, float) and not math.isfinite(field.default))
            ):
                holder[name] = field.default
    Input.model_validate(document)
    assert list(validator.iter_errors(document)) == []
