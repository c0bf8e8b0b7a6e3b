"""Registries: what their schema and the program accept; those that a user adds."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from schemas.base import environment
from schemas.base.errors import RegistryError, TransferError
from schemas.checkpoint.header import read_header
from schemas.json_schema import REGISTRY_SCHEMA
from tests.zoo.conftest import model, registry_text, write_registry
from tests.zoo.transfer.faulty_server import FaultyServer
from zoo import registry as registries
from zoo.known_models import KnownModel, KnownModels, known_models
from zoo.registry import built_in_path, parse_registry, read_registry
from zoo.resolve import model_file

SOURCE = {"kind": "https", "url": "https://example.org/m.pt"}
MODEL = model("DPA2_medium", aliases=["medium"], file={"name": "m.pt", "sources": [SOURCE]})


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
    for one in bundled:
        path = model_file(one.name)
        assert path.stat().st_size == one.file.size <= 4_000_000
        assert [branch.name for branch in one.branches] == [*read_header(path).branches]
        assert (Path(__file__).parents[2] / str(one.training_input)).is_file()


def test_own_registries_come_first_in_the_order_added_and_the_built_in_one_last(tmp_path):
    registries.add(str(write_registry(tmp_path / "one", model("A"), model("B"))))
    registries.add(
        str(write_registry(tmp_path / "two", model("b"), model("C", aliases=["DPA2_medium"])))
    )
    found = known_models()
    assert found.faults == []
    assert [known.registry for known in found.models][:4] == ["one", "one", "two", "two"]
    assert found.find("b").registry == "one"
    assert found.find("C").base == tmp_path / "two"
    assert found.find("dpa2_MEDIUM").model.name == "C"
    shadowed = {known.model.name: known.shadowed_by for known in found.models if known.shadowed_by}
    assert shadowed == {"b": "one"}
    # the alias is taken, its own name still reaches it
    assert found.find("DPA-2.3.1-v3.0.0rc0").registry == registries.BUILT_IN


def test_a_model_of_the_same_name_shadows_the_built_in_one(tmp_path):
    registries.add(str(write_registry(tmp_path / "mine", model("dpa-2.4-7m"))), name="mine")
    built_in = [known for known in known_models().models if known.model.name == "DPA-2.4-7M"]
    assert [known.shadowed_by for known in built_in] == ["mine"]
    registries.remove("MINE")
    assert known_models().find("DPA-2.4-7M").shadowed_by is None
    assert registries.user_registries() == []


def test_a_registered_revision_is_found_behind_the_at_sign(tmp_path):
    two = model("A", revision="2"), model("A", revision="1")
    registries.add(str(write_registry(tmp_path / "one", *two)))
    found = known_models()
    assert found.find("a").model.revision == "2"
    assert found.find("a", "1").model.revision == "1"
    with pytest.raises(RegistryError, match="no revision `3`"):
        found.find("a", "3")


def test_another_revision_is_one_of_the_repository_without_the_registered_hash():
    known = known_models().find("DPA-2.4-7M", "0123abc")
    assert known.model.file.sha256 is None
    assert {source.kind for source in known.model.file.sources} == {"huggingface"}
    assert {source.revision for source in known.model.file.sources} == {"0123abc"}


def test_a_registry_that_is_gone_or_broken_hides_no_other(tmp_path):
    path = write_registry(tmp_path / "one", model("A"))
    registries.add(str(path))
    path.write_text("version: 1\nmodels: [{name: A}]")
    (fault,) = known_models().faults
    assert "fault at models.0" in fault.message
    path.unlink()
    found = known_models()
    assert "cannot be read" in found.faults[0].message
    assert found.find("DPA2_medium")
    with pytest.raises(RegistryError) as caught:
        found.find("A_model_of_one")
    assert str(path) in caught.value.hint


@pytest.mark.parametrize("name", ["one", "ONE", "built-in", "../x", ".x", "a b", "x" * 70])
def test_a_name_is_taken_once_and_is_a_name(tmp_path, name):
    registries.add(str(write_registry(tmp_path / "one", model("A"))))
    with pytest.raises(RegistryError, match="registry"):
        registries.add(str(write_registry(tmp_path / "two", model("B"))), name=name)
    assert [registry.name for registry in registries.user_registries()] == ["one"]


def test_a_faulty_registry_is_not_added(tmp_path):
    with pytest.raises(RegistryError, match="cannot be read"):
        registries.add(str(tmp_path / "none.yaml"))
    with pytest.raises(RegistryError, match="fault"):
        registries.add(str(write_registry(tmp_path / "one", {"name": "A"})))
    assert registries.user_registries() == []


def test_a_damaged_list_is_one_sentence():
    path = environment.config_folder() / "registries.json"
    path.parent.mkdir(parents=True)
    for content in ("{", "[]", '{"registries": [{"x": 1}]}'):
        path.write_text(content)
        with pytest.raises(RegistryError, match=r"registries\.json"):
            registries.user_registries()


def test_a_registry_at_an_address_is_kept_here_and_fetched_again_on_demand():
    with FaultyServer() as server:
        first = registry_text(model("A")).encode()
        url = server.serve("/models/registry.yaml", first).url
        added = registries.add(url, name="far")
        assert added.base == url.removesuffix("/registry.yaml")
        assert known_models().find("A").base == added.base
        assert list(registries.update()) == [(added, False)]
        server.serve("/models/registry.yaml", registry_text(model("B")).encode())
        assert known_models().find("A")  # not before it is asked for
        assert list(registries.update("far")) == [(added, True)]
        assert known_models().find("B")
        server.serve("/models/registry.yaml", b"models: [")
        with pytest.raises(RegistryError, match="cannot be read"):
            list(registries.update())
    with pytest.raises(TransferError, match="cannot be fetched"):
        list(registries.update())
    assert known_models().find("B")
    registries.remove("far")
    assert not list((environment.config_folder() / "registries").iterdir())


def test_a_registry_at_an_address_cannot_point_into_the_program(server):
    bundled = {"kind": "bundled", "path": "models/DPA2_water_tiny.pt"}
    entry = model("A", file={"name": "a.pt", "sources": [bundled]})
    url = server.serve("/registry.yaml", registry_text(entry).encode()).url
    with pytest.raises(RegistryError, match="comes with the program"):
        registries.add(url)


def test_a_registry_of_endless_length_is_given_up(server, monkeypatch):
    monkeypatch.setattr(registries, "_MOST_BYTES", 1000)
    url = server.serve("/registry.yaml", b"#" * 2000).url
    with pytest.raises(TransferError, match="longer than 1000 bytes"):
        registries.add(url)


def test_plain_http_to_another_machine_needs_leave():
    with pytest.raises(RegistryError, match="https") as caught:
        registries.add("http://192.0.2.1/registry.yaml")
    assert "--insecure" in caught.value.hint
    with pytest.raises(RegistryError, match="https"):
        registries.add("ftp://192.0.2.1/registry.yaml", insecure=True)


def test_offline_no_registry_is_fetched(monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(TransferError, match="without the network"):
        registries.add("https://example.org/registry.yaml")


def test_the_list_is_plain_json(tmp_path):
    path = write_registry(tmp_path / "one", model("A"))
    registries.add(str(tmp_path / "one"))
    document = json.loads((environment.config_folder() / "registries.json").read_text())
    entry = {"name": "one", "location": str(path), "insecure": False}
    assert document == {"version": 1, "registries": [entry]}
