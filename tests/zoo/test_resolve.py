"""References to models: what people write, which file it means, what is refused."""

import hashlib
from pathlib import Path

import pytest

from cli.options import find_file, find_model
from schemas.base import environment
from schemas.base.errors import RegistryError, TransferError
from schemas.registry import AisSquareSource, ModelFile
from tests.commands import outcome
from tests.zoo.conftest import model, registry_text, write_registry
from zoo import registry as registries
from zoo.known_models import Located
from zoo.local_copies import local_file
from zoo.registry import read_registry
from zoo.resolve import (
    Address,
    HubPath,
    LocalPath,
    ModelName,
    fetch,
    located,
    model_file,
    parse_reference,
    place,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("DPA2_medium", ModelName("DPA2_medium")),
        ("DPA-2.4-7M", ModelName("DPA-2.4-7M")),
        ("DPA4-Air-OMat24@v20260704", ModelName("DPA4-Air-OMat24", "v20260704")),
        ("hf://owner/name/a.pt", HubPath("huggingface", "owner/name", "a.pt")),
        ("hf://owner/name@v1/x/a.pt", HubPath("huggingface", "owner/name", "x/a.pt", "v1")),
        ("HF://o/n@refs%2Fpr%2F1/a.pt", HubPath("huggingface", "o/n", "a.pt", "refs/pr/1")),
        ("ms://owner/name@master/a.pt", HubPath("modelscope", "owner/name", "a.pt", "master")),
        ("https://example.org/a.pt?x=1", Address("https://example.org/a.pt?x=1")),
        ("http://127.0.0.1:8000/a.pt", Address("http://127.0.0.1:8000/a.pt")),
        ("http://[::1]:8000/a.pt", Address("http://[::1]:8000/a.pt")),
        ("model.ckpt.pt", LocalPath(Path("model.ckpt.pt"))),
        ("./DPA2_medium", LocalPath(Path("DPA2_medium"))),
        ("runs/DPA2_medium", LocalPath(Path("runs/DPA2_medium"))),
        ("/models/x@y", LocalPath(Path("/models/x@y"))),
        ("missing.pth", LocalPath(Path("missing.pth"))),
    ],
)
def test_what_people_write_is_understood(text, meant):
    assert parse_reference(text) == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither a file nor a name"),
        (" ", "neither a file nor a name"),
        ("a@b@c", "neither a file nor a name"),
        ("@v1", "neither a file nor a name"),
        ("hf://name/a.pt", "not a file on Hugging Face"),
        ("hf://owner/name", "not a file on Hugging Face"),
        ("hf://owner/name@v1", "not a file on Hugging Face"),
        ("hf://owner/name/../../a.pt", "not a file on Hugging Face"),
        ("hf://../name/a.pt", "not a file on Hugging Face"),
        ("ms://owner/name/", "not a file on ModelScope"),
        ("ftp://example.org/a.pt", "ftp://"),
        ("s3://bucket/a.pt", "s3://"),
        ("https://example.org", "names no file"),
        ("https:///a.pt", "names no file"),
        ("https://[::1/a.pt", "not an address"),
        ("http://example.org/a.pt", "not encrypted"),
        ("http://127.0.0.1.example.org/a.pt", "not encrypted"),
    ],
)
def test_what_cannot_be_meant_says_why(text, says):
    with pytest.raises(RegistryError, match=says) as caught:
        parse_reference(text)
    assert caught.value.message


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(RegistryError) as caught:
        parse_reference("https://me:secret@example.org/a.pt")
    assert "secret" not in caught.value.message + (caught.value.hint or "")


def test_an_existing_file_is_never_taken_for_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DPA2_water_tiny", "DPA2_water_tiny@v1"):
        Path(name).write_bytes(b"")
        assert parse_reference(name) == LocalPath(Path(name))
    # deepmd-kit lets the suffix be left out
    Path("DPA2_medium.pt").write_bytes(b"")
    assert parse_reference("DPA2_medium") == LocalPath(Path("DPA2_medium"))


def test_a_name_longer_than_any_file_is_a_name():
    assert parse_reference("x" * 5000) == ModelName("x" * 5000)


CONTENT = b"PK\x03\x04" + b"numbers" * 1000


def test_a_path_is_not_looked_at():
    for path in ("folder/none.pt", "model.ckpt.pt", "folder/model", "missing.pth"):
        assert model_file(path) == Path(path)
    with pytest.raises(RegistryError, match="file on this machine"):
        located("folder/none.pt")


def test_addresses_of_hubs_become_sources_with_their_newest_revision():
    (source,) = located("hf://owner/name/deep/m.pt").file.sources
    assert (source.kind, source.revision, source.path) == ("huggingface", "main", "deep/m.pt")
    (source,) = located("ms://owner/name@v2/m.pt").file.sources
    assert (source.kind, source.revision) == ("modelscope", "v2")
    assert located("hf://owner/name/deep/m.pt").file.name == "m.pt"


def test_a_file_that_was_replaced_is_refused_by_its_path_too(tmp_path):
    path, other = tmp_path / "water.pt", tmp_path / "other.pt"
    for file in (path, other):
        file.write_bytes(CONTENT)
    old = hashlib.sha256(CONTENT).hexdigest()
    superseded = [{"sha256": old, "reason": "nobody could load it"}]
    water = model("Water")
    water["file"]["superseded"] = superseded
    assert model_file(str(path)) == path
    registries.add(str(write_registry(tmp_path / "own", water)))
    with pytest.raises(RegistryError, match="nobody could load it"):
        model_file(str(path))
    assert model_file(str(other)) == other  # not hashed: it is not called like the model


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/m.pt?download=true", "m.pt"),
        ("https://example.org/a%20b/m%2Fn.pt", "n.pt"),
        ("https://example.org/a/..%2f..%2fetc%2f.passwd", "passwd"),
        ("https://example.org/a/m (1).pt", "m__1_.pt"),
    ],
)
def test_the_name_of_a_file_from_an_address_is_only_a_name(url, name):
    assert located(url).file.name == name


@pytest.mark.parametrize("text", ["hf://owner/name/a b.pt", "hf://owner/name@v../m.pt"])
def test_what_no_hub_has_is_one_sentence(text):
    with pytest.raises(RegistryError, match="cannot be the"):
        located(text)


def test_a_file_beside_a_registry_on_a_server_is_found_below_its_address(server):
    registry = registry_text(model("M")).encode()
    registries.add(server.serve("/zoo/registry.yaml", registry).url, name="far")
    server.serve("/zoo/M.pt", CONTENT)
    path = model_file("m")
    assert path.read_bytes() == CONTENT
    place = located("m")
    found = local_file(place)
    assert found is not None
    assert (found.path, found.where) == (path, "cached")
    # trusted on first use: the server is not asked again
    assert model_file("M") == path
    assert server.sent("/zoo/M.pt") == len(CONTENT)


def test_an_address_that_became_a_path_is_an_address(server):
    url = server.serve("/m.pt", CONTENT).url
    assert find_model(Path(url)).read_bytes() == CONTENT
    assert Path(find_model(url)) == find_model(Path(url))
    assert find_model(None) is None
    assert find_model(Path("runs/model.pt")) == Path("runs/model.pt")


@pytest.fixture
def foreign(tmp_path, server):
    """Registers `Salt`, of another family, and two DPA-2 models; returns the server of its file."""
    source = {"kind": "https", "url": server.serve("/m.pt", CONTENT).url}
    file = {"name": "m.pt", "sources": [source]}
    models = [
        model("Salt", family="DPA-3", trainable=False, file=file),
        model("Water", family="dpa2", file=file),
        model("Frozen", family="DPA_2", trainable=False, file=file),
    ]
    registries.add(str(write_registry(tmp_path / "own", *models)))
    return server


@pytest.mark.parametrize(
    "words",
    [
        ["finetune", "input.json", "--model", "salt"],
        ["train", "input.json", "--finetune", "salt", "--use-pretrain-script"],
        ["train", "input.json", "--init-model", "salt"],
        ["validate", "input.json", "--finetune", "salt"],
        ["convert", "salt", "salt.dp"],
        ["bias", "salt", "--data", "data", "--output", "new.pt"],
        ["lock", "finetune", "input.json", "--model", "salt"],
    ],
)
def test_a_model_of_another_family_is_refused_before_it_is_fetched(foreign, words):
    found = outcome(*words)
    assert isinstance(found.exception, RegistryError)
    assert found.exception.message == "Salt is a DPA-3 model, and this engine computes DPA-2 only"
    assert "Water, Frozen, DPA2_water_tiny, DPA-2.4-7M, DPA-2.3.1" in found.exception.hint
    assert foreign.requests == []


def test_every_registered_model_of_another_family_is_refused_without_the_network(monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    others = [one for one in read_registry().models if not one.is_of("DPA-2")]
    assert {one.family for one in others} == {"DPA-1", "DPA-3", "DPA-4"}
    for one in others:
        with pytest.raises(RegistryError, match=f"is a {one.family} model"):
            model_file(one.reference)


def test_a_file_of_any_family_is_had_where_nothing_is_computed(foreign, tmp_path):
    assert find_file(Path("salt")).read_bytes() == CONTENT
    for name in ("Water", "Frozen"):
        assert Path(find_model(name)).read_bytes() == CONTENT


def test_the_cache_is_seen_where_the_store_put_a_file(server):
    url = server.serve("/m.pt", CONTENT).url
    source = AisSquareSource(kind="aissquare", url=url)
    file = ModelFile(name="m.pt", sources=[source])
    assert local_file(Located(file)) is None
    arrived = fetch(Located(file))
    found = local_file(Located(file))
    assert found is not None
    assert found.path == arrived.path
    known = file.model_copy(update={"sha256": arrived.sha256})
    assert local_file(Located(known)) == found
    assert local_file(Located(file.model_copy(update={"sha256": "0" * 64}))) is None


def test_offline_only_what_is_here_is_used(server, monkeypatch):
    url = server.serve("/m.pt", CONTENT).url
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(TransferError, match="network"):
        model_file(url)
    assert server.requests == []
    path = model_file(url, offline=False)
    assert model_file(url) == path
    assert model_file("water_tiny").is_file()


def test_a_bundled_model_that_was_changed_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("zoo.local_copies.PACKAGE", tmp_path)
    with pytest.raises(RegistryError, match="cannot be read"):
        model_file("DPA2_water_tiny")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "DPA2_water_tiny.pt").write_bytes(CONTENT)
    with pytest.raises(RegistryError, match="is not the file that its registry names"):
        model_file("DPA2_water_tiny")


def test_a_file_is_put_into_a_folder_that_cannot_be_linked_to(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    origin = tmp_path / "m.pt"
    origin.write_bytes(CONTENT)
    placed = place(origin, tmp_path / "out", "n.pt", sha256="0" * 64)
    assert placed.how == "copied"
    assert placed.path.read_bytes() == CONTENT


def test_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert environment.huggingface_cache() == tmp_path / "hub"
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environment.huggingface_cache() == tmp_path / "huggingface" / "hub"
