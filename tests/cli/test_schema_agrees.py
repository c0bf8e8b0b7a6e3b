"""The exported JSON Schema and the models accept the same inputs.

The models say more only where several values play together, which a schema of one value at a
time cannot say. These are the documented differences, and the only ones:

- a key beside another of its names (ZOO106);
- texts of a certain form: activation functions, batch sizes, probability styles;
- the rules (ZOO2xx and above), which no part of this test runs.
"""

import json
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.export import EXPORTED
from schemas.input import Input
from schemas.outline import child
from schemas.section import Section, aliases
from tests.cli.conftest import SINGLE_TASK

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
    return jsonschema.Draft202012Validator(json.loads(EXPORTED.read_text(encoding="utf-8")))


def sections(section: type[Section], data: dict[str, Any]):
    """Yield every section of the data with its class."""
    yield section, data
    for key, value in data.items():
        inner = child(section, key, value)
        if inner is not None and isinstance(value, dict):
            yield from sections(inner, value)


def change(data: st.DataObject, document: dict[str, Any]) -> str:
    """Put a value somewhere into a document; return the canonical name of its key."""
    section, holder = data.draw(st.sampled_from(list(sections(Input, document))))
    names = aliases(section)
    taken = {names.get(key, key) for key in holder}
    others = [alias for alias, name in names.items() if name not in taken]
    key = data.draw(st.sampled_from([*section.model_fields, *others, "_comment", "unknown"]))
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
    changed = {change(data, document) for _ in range(data.draw(st.integers(1, 3)))}
    try:
        Input.model_validate(document)
        by_models = True
    except ValidationError:
        by_models = False
    by_schema = validator.is_valid(document)
    if by_models:
        assert by_schema
    elif not changed & FORMS:
        assert not by_schema


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
