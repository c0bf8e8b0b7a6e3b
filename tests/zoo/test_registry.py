import json
from pathlib import Path

import pytest
import yaml

from schemas.base.errors import RegistryError
from schemas.checkpoint.header import read_header
from zoo.known_models import KnownModel, KnownModels
from zoo.registry import read_registry
from zoo.resolve import model_file

ENTRY = {
    "name": "DPA2_medium",
    "aliases": ["medium"],
    "description": "A model.",
    "family": "DPA-2",
    "trainable": True,
    "elements": ["H", "O"],
    "file": {
        "name": "m.pt",
        "size": 3,
        "sha256": "0" * 64,
        "sources": [{"kind": "bundled", "path": "models/m.pt"}],
    },
    "licence": "Apache-2.0",
}


@pytest.fixture
def write(tmp_path):
    def write(*entries):
        path = tmp_path / "registry.yaml"
        path.write_text(yaml.safe_dump({"version": 1, "models": list(entries)}))
        return path

    return write


def find(name, path):
    known = [KnownModel(model, "mine", path.parent) for model in read_registry(path).models]
    return KnownModels(known, []).find(name).model


@pytest.mark.parametrize("name", ["DPA2_medium", "dpa2_MEDIUM", "Medium"])
def test_a_model_is_found_by_name_and_alias_in_any_case(write, name):
    assert find(name, write(ENTRY)).name == "DPA2_medium"


def test_an_unknown_name_says_which_is_near(write):
    with pytest.raises(RegistryError) as caught:
        find("DPA2_mediun", write(ENTRY))
    assert "DPA2_medium" in caught.value.hint


def test_a_name_given_twice_is_refused(write):
    other = {**ENTRY, "name": "other", "aliases": ["MEDIUM"]}
    with pytest.raises(RegistryError, match="two models"):
        read_registry(write(ENTRY, other))


@pytest.mark.parametrize("path", ["../secret.pt", "/etc/passwd", "models/../../x.pt", "a/./b"])
def test_a_bundled_file_cannot_lie_outside_the_package(write, path):
    source = {"kind": "bundled", "path": path}
    entry = {**ENTRY, "file": {**ENTRY["file"], "sources": [source]}}
    with pytest.raises(RegistryError, match="path"):
        read_registry(write(entry))


@pytest.mark.parametrize("text", ["models: [", "- 1", "\x00", "version: 2\nmodels: []"])
def test_a_broken_registry_is_one_sentence(tmp_path, text):
    path = tmp_path / "registry.yaml"
    path.write_text(text)
    with pytest.raises(RegistryError, match=r"registry\.yaml"):
        read_registry(path)


@pytest.mark.parametrize("reference", ["model.ckpt.pt", "folder/model", "missing.pth"])
def test_a_path_stays_a_path_though_nothing_is_there(reference):
    assert model_file(reference) == Path(reference)


def test_every_bundled_model_is_what_the_registry_says():
    bundled = [m for m in read_registry().models if m.file.sources[0].kind == "bundled"]
    assert bundled
    for model in bundled:
        path = model_file(model.name)
        assert path.stat().st_size == model.file.size <= 4_000_000
        header = read_header(path)
        found = [*header.branches]
        assert [branch.name for branch in model.branches] == found
        assert json.dumps(model.elements)
