import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from schemas.base.errors import RegistryError
from schemas.json_schema import REGISTRY_SCHEMA
from zoo.registry import built_in_path, parse_registry, read_registry

MODEL = {
    "name": "m",
    "description": "A model.",
    "family": "DPA-2",
    "trainable": True,
    "file": {"name": "m.pt", "sources": [{"kind": "https", "url": "https://example.org/m.pt"}]},
}


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(REGISTRY_SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def changed(path, value):
    document = json.loads(json.dumps({"version": 1, "models": [MODEL]}))
    *parents, last = ["models", 0, *path]
    entry = document
    for key in parents:
        entry = entry[key]
    entry[last] = value
    return document


def test_the_registry_of_the_program_passes_and_names_its_schema(validator):
    content = built_in_path().read_text(encoding="utf-8")
    assert list(validator.iter_errors(yaml.safe_load(content))) == []
    first = content.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (built_in_path().parent / first.partition("=")[2]).samefile(REGISTRY_SCHEMA)


def test_every_key_of_the_schema_is_described(validator):
    definitions = [validator.schema, *validator.schema["$defs"].values()]
    for definition in definitions:
        for name, entry in definition.get("properties", {}).items():
            assert entry.get("description"), name


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["name"], "a/b"),
        (["name"], "a@b"),
        (["name"], "a b"),
        (["name"], 3),
        (["aliases"], "m"),
        (["sha256"], "0" * 64),
        (["num_branches"], 0),
        (["file", "size"], "5"),
        (["file", "sha256"], "0" * 63),
        (["file", "sha256"], "A" * 64),
        (["file", "name"], "../m.pt"),
        (["file", "sources"], []),
        (["file", "sources"], [{"kind": "ftp", "url": "ftp://example.org/m.pt"}]),
        (["file", "sources"], [{"kind": "https", "url": "file:///etc/passwd"}]),
        (["file", "sources"], [{"kind": "file", "path": "../m.pt"}]),
        (["file", "sources"], [{"kind": "file", "path": "/m.pt"}]),
        (["file", "sources"], [{"kind": "huggingface", "repo": "../x", "path": "m.pt"}]),
        (["file", "sources"], [{"kind": "huggingface", "repo": "x", "path": "m.pt"}]),
        (
            ["file", "sources"],
            [{"kind": "modelscope", "repo": "x/y", "path": "m.pt", "revision": "../z"}],
        ),
    ],
)
def test_the_schema_and_the_program_refuse_the_same(validator, path, value):
    document = changed(path, value)
    assert list(validator.iter_errors(document))
    with pytest.raises(RegistryError, match=r"fault at models\.0"):
        parse_registry(json.dumps(document), "r.yaml")


def test_the_schema_and_the_program_accept_the_same(validator):
    document = changed(["revision"], "v20260704")
    assert list(validator.iter_errors(document)) == []
    assert parse_registry(json.dumps(document), "r.yaml").models[0].reference == "m@v20260704"


def test_what_the_registry_knows_of_dpa_2():
    models = {model.name: model for model in read_registry().models}
    medium, newest = models["DPA-2.3.1-v3.0.0rc0"], models["DPA-2.4-7M"]
    assert "DPA2_medium" in medium.aliases
    assert {"H2O_H2O-PD", "Domains_SSE-PBE"} <= {branch.name for branch in medium.branches}
    assert medium.file.sha256 is None
    assert newest.file.superseded[0].sha256 != newest.file.sha256
    assert [source.kind for source in newest.file.sources] == [
        "huggingface",
        "huggingface",
        "modelscope",
    ]
    assert {model.family for model in models.values() if model.trainable} == {"DPA-2"}


def test_the_training_input_of_the_bundled_model_is_in_the_sources():
    bundled = read_registry().models[0]
    assert (Path(__file__).parents[2] / str(bundled.training_input)).is_file()
