"""One registry: what its schema and the program accept, and what the built-in one says."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from schemas.base.errors import RegistryError
from schemas.checkpoint.header import read_header
from schemas.json_schema import REGISTRY_SCHEMA
from zoo.known_models import KnownModel, KnownModels
from zoo.registry import built_in_path, parse_registry, read_registry
from zoo.resolve import model_file

MODEL = {
    "name": "DPA2_medium",
    "aliases": ["medium"],
    "description": "A model.",
    "family": "DPA-2",
    "trainable": True,
    "elements": ["H", "O"],
    "file": {"name": "m.pt", "sources": [{"kind": "https", "url": "https://example.org/m.pt"}]},
    "licence": "Apache-2.0",
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
        *(
            (["file", "sources"], [{"kind": "bundled", "path": path}])
            for path in ("../secret.pt", "/etc/passwd", "models/../../x.pt", "a/./b")
        ),
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
    assert (
        parse_registry(json.dumps(document), "r.yaml").models[0].reference
        == "DPA2_medium@v20260704"
    )


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


def find(name):
    models = parse_registry(json.dumps({"version": 1, "models": [MODEL]}), "r.yaml").models
    return KnownModels([KnownModel(model, "mine", Path()) for model in models], []).find(name).model


@pytest.mark.parametrize("name", ["DPA2_medium", "dpa2_MEDIUM", "Medium"])
def test_a_model_is_found_by_name_and_alias_in_any_case(name):
    assert find(name).name == "DPA2_medium"
    with pytest.raises(RegistryError) as caught:
        find("DPA2_mediun")
    assert "DPA2_medium" in caught.value.hint


def test_a_name_given_twice_is_refused():
    other = {**MODEL, "name": "other", "aliases": ["MEDIUM"]}
    with pytest.raises(RegistryError, match="two models"):
        parse_registry(json.dumps({"version": 1, "models": [MODEL, other]}), "r.yaml")


@pytest.mark.parametrize("text", ["models: [", "- 1", "\x00", "version: 2\nmodels: []"])
def test_a_broken_registry_is_one_sentence(tmp_path, text):
    path = tmp_path / "registry.yaml"
    path.write_text(text)
    with pytest.raises(RegistryError, match=r"registry\.yaml"):
        read_registry(path)


def test_every_bundled_model_is_what_the_registry_says():
    bundled = [m for m in read_registry().models if m.file.sources[0].kind == "bundled"]
    assert bundled
    for model in bundled:
        path = model_file(model.name)
        assert path.stat().st_size == model.file.size <= 4_000_000
        assert [branch.name for branch in model.branches] == [*read_header(path).branches]
        assert (Path(__file__).parents[2] / str(model.training_input)).is_file()
