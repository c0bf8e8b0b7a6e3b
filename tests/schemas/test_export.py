"""The committed JSON Schema is fresh, valid and agrees with the checker."""

import json

import jsonschema
import pytest

from schemas.json_schema import INPUT_SCHEMA, input_schema_text


def test_the_committed_schema_is_fresh():
    assert INPUT_SCHEMA.read_text(encoding="utf-8") == input_schema_text(), (
        "run `python -m schemas.json_schema`"
    )


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(INPUT_SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_good_input_passes(validator, water):
    water["$schema"] = "input.schema.json"
    water["training"]["_comment"] = "a comment"
    water["training"]["stop_batch"] = water["training"].pop("numb_steps")
    assert list(validator.iter_errors(water)) == []


def test_an_unknown_key_does_not(validator, water):
    water["model"]["descriptor"]["repinit"]["nsell"] = 1
    assert list(validator.iter_errors(water))


def test_every_key_is_described(validator):
    for definition in validator.schema["$defs"].values():
        for name, entry in definition.get("properties", {}).items():
            assert entry.get("description"), name
