"""Files through the hubs' real clients, and through plain addresses, from loopback hubs."""

import hashlib
import random
from pathlib import Path

import pytest

from schemas.base.errors import RegistryError, TransferError
from schemas.registry import ModelFile
from tests.zoo.conftest import point_to
from tests.zoo.hubs.fake_hubs import FakeHuggingFace, FakeModelScope, Repository
from tests.zoo.transfer.faulty_server import Fault, FaultyServer, Page, Reply
from tests.zoo.transfer.watcher import Watcher
from zoo.cache import Store
from zoo.hubs import clients
from zoo.hubs.fetch import fetch_file
from zoo.known_models import Located
from zoo.local_copies import shipped_file
from zoo.transfer.remote import ForbiddenAddressError, RetryPolicy, UnreachableError

CONTENT = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = random.Random(2).randbytes(300_000)
HUB = {"kind": "huggingface", "repo": "owner/model", "path": "m.pt"}
MODELSCOPE = {"kind": "modelscope", "repo": "owner/model", "path": "m.pt"}
QUICK = RetryPolicy(attempts=2, first_wait=0.01, poll=0.01)


@pytest.fixture(autouse=True)
def model(hub):
    hub.repositories["owner/model"] = Repository({"m.pt": CONTENT, "input.json": b"{}"})


@pytest.fixture
def scope(tmp_path, monkeypatch):
    with FakeModelScope() as hub:
        hub.repositories["owner/model"] = {"m.pt": CONTENT}
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "ms-home"))
        monkeypatch.setenv("MODELSCOPE_DOWNLOAD_INTRA_CLOUD", "0")
        monkeypatch.setenv("MODELSCOPE_API_TOKEN", hub.token)
        yield hub


@pytest.fixture
def fetch(tmp_path):
    def run(*sources, sha256=SHA256, size=None, superseded=(), base=None, **options):
        file = ModelFile.model_validate(
            {
                "name": "m.pt",
                "sha256": sha256,
                "size": size,
                "sources": list(sources),
                "superseded": list(superseded),
            }
        )
        place = Located(file, base)
        if isinstance(base, Path):
            return shipped_file(place)
        return fetch_file(place, Store(tmp_path / "store", policy=QUICK), **options)

    return run


def plain(content=CONTENT):
    etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    return FaultyServer(lambda _: Page(content, etag=etag))


def address(server):
    return {"kind": "https", "url": f"{server.url}/m.pt"}


@pytest.fixture(params=["huggingface", "modelscope"])
def any_hub(request, tmp_path):
    """A hub with a client of its own, the source there, and the folder of the client's cache."""
    if request.param == "huggingface":
        return request.getfixturevalue("hub"), HUB, tmp_path / "hf"
    return request.getfixturevalue("scope"), MODELSCOPE, tmp_path / "ms"


def test_a_file_of_a_hub_comes_through_its_client_and_stays_in_its_cache(any_hub, fetch, tmp_path):
    hub, source, cache = any_hub
    watcher = Watcher()
    found = fetch(source, progress=watcher)
    assert found.path.is_relative_to(cache)
    assert found.path.read_bytes() == CONTENT
    assert (found.sha256, found.size, found.received) == (SHA256, len(CONTENT), len(CONTENT))
    assert not (tmp_path / "store").exists()
    assert [start[0] for start in watcher.starts] == ["m.pt"]
    assert (watcher.arrived, watcher.finished) == (len(CONTENT), 1)
    assert hub.token in str([request.headers for request in hub.requests])
    assert hub.storage.requests
    assert hub.token not in str([request.headers for request in hub.storage.requests])
    before = len(hub.requests)
    assert fetch(source).received == 0
    assert fetch(source, sha256=None, offline=True).sha256 == SHA256
    assert len(hub.requests) == before


def test_offline_a_missing_file_names_the_command_that_fetches_it(hub, fetch):
    with pytest.raises(TransferError, match=r"m\.pt is not in the cache") as caught:
        fetch(HUB, offline=True)
    assert "zoo pull hf://owner/model/m.pt" in caught.value.hint
    assert not hub.asked("GET", "resolve")
    assert not hub.asked("HEAD")


def test_the_token_does_not_go_to_a_mirror_that_a_registry_names(hub, fetch, tmp_path):
    with FakeHuggingFace() as mirror:
        mirror.repositories["owner/model"] = Repository({"m.pt": CONTENT})
        found = fetch({**HUB, "endpoint": mirror.url})
        assert found.path.is_relative_to(tmp_path / "store")
        for request in (*mirror.requests, *mirror.storage.requests):
            assert hub.token not in str(request.headers)


def test_another_file_of_hugging_face_is_not_used(hub, fetch):
    with pytest.raises(TransferError, match=r"another m\.pt: SHA-256") as caught:
        fetch(HUB, sha256="0" * 64)
    assert SHA256 in caught.value.message


def test_a_replaced_file_is_refused_with_the_reason(hub, fetch):
    old = {"sha256": SHA256, "reason": "it could not be loaded."}
    with pytest.raises(TransferError, match="was replaced: it could not be loaded"):
        fetch(HUB, sha256=None, superseded=[old])
    with plain() as server, pytest.raises(TransferError, match="was replaced: it could not"):
        fetch(address(server), sha256="0" * 64, superseded=[old])


def test_a_damaged_file_in_the_hubs_cache_is_fetched_again(hub, fetch):
    path = fetch(HUB).path.resolve()
    path.chmod(0o644)
    path.write_bytes(CONTENT[:-1] + b"?")
    watcher = Watcher()
    again = fetch(HUB, progress=watcher)
    assert again.path.read_bytes() == CONTENT
    assert any("damaged" in message for message in watcher.said)


def test_content_that_storage_changed_is_never_used(hub, fetch):
    hub.tampered[SHA256] = OTHER
    with pytest.raises(TransferError, match=r"m\.pt"):
        fetch(HUB)


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"repo": "owner/nothing"}, "does not exist at .*, or is private", "HF_TOKEN"),
        ({"path": "n.pt"}, "owner/model@main has no file n.pt", "/owner/model/tree/main"),
        ({"revision": "v9"}, "owner/model has no revision v9", "newest"),
    ],
)
def test_what_hugging_face_does_not_have_is_said_in_a_sentence(hub, fetch, change, message, hint):
    with pytest.raises(TransferError, match=message) as caught:
        fetch({**HUB, **change})
    assert hint in caught.value.hint


def test_a_gated_model_says_where_to_agree(hub, fetch, monkeypatch):
    hub.repositories["owner/model"].gated = True
    assert fetch(HUB).sha256 == SHA256  # the token opens it
    hub.repositories["owner/gated"] = Repository({"m.pt": OTHER}, gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_someone_else")
    with pytest.raises(TransferError, match="asks its readers to agree") as caught:
        fetch({**HUB, "repo": "owner/gated"}, sha256=None)
    assert f"{hub.url}/owner/gated" in caught.value.hint


def test_where_the_hubs_client_fails_its_plain_address_serves(hub, fetch, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("Consistency check failed")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
    watcher = Watcher()
    found = fetch(HUB, progress=watcher)
    assert found.path.is_relative_to(tmp_path / "store")
    assert found.path.read_bytes() == CONTENT
    assert any("Consistency check failed" in message for message in watcher.said)
    for request in hub.storage.requests:
        assert hub.token not in str(request.headers)


def test_a_closed_model_of_modelscope_says_how_to_log_in(scope, fetch, monkeypatch):
    scope.closed.add("owner/model")
    assert fetch(MODELSCOPE).sha256 == SHA256
    scope.repositories["owner/other"] = {"m.pt": OTHER}
    scope.closed.add("owner/other")
    monkeypatch.delenv("MODELSCOPE_API_TOKEN")
    with pytest.raises(TransferError, match="does not let you read owner/other") as caught:
        fetch({**MODELSCOPE, "repo": "owner/other"}, sha256=None)
    assert "MODELSCOPE_API_TOKEN" in caught.value.hint


def test_without_the_modelscope_client_its_plain_address_serves(
    scope, fetch, tmp_path, monkeypatch
):
    monkeypatch.setattr(clients, "has_modelscope", lambda: False)
    assert fetch(MODELSCOPE).path.is_relative_to(tmp_path / "store")
    assert scope.asked("GET", "/models/owner/model/resolve/master/m.pt")
    assert scope.token not in str([request.headers for request in scope.requests])


def test_a_mirror_takes_over_where_the_hub_has_no_such_file(hub, fetch):
    with plain() as server:
        found = fetch({**HUB, "path": "n.pt"}, address(server))
    assert found.sha256 == SHA256


def test_a_mirror_goes_on_where_another_broke_off(fetch):
    with FaultyServer() as first, FaultyServer() as second:
        gone = [Fault(), Fault(reset_after=200_000), *[Fault(status=404)] * 9]  # latency, file
        page = first.serve("/m.pt", CONTENT, faults=gone)
        other = second.serve("/m.pt", CONTENT)
        found = fetch({"kind": "https", "url": page.url}, {"kind": "https", "url": other.url})
        assert found.path.read_bytes() == CONTENT
        assert found.received <= len(CONTENT) + 65536
        assert 0 < second.sent("/m.pt") < len(CONTENT)


def test_when_all_places_fail_each_answer_is_told(hub, scope, fetch):
    scope.repositories.clear()
    with FaultyServer(lambda _: Reply(404)) as server, pytest.raises(TransferError) as caught:
        fetch({**HUB, "path": "n.pt"}, MODELSCOPE, address(server))
    lines = caught.value.message.splitlines()
    assert lines[0] == "m.pt could not be fetched"
    assert "owner/model@main has no file n.pt" in caught.value.message
    assert "ModelScope has no m.pt" in caught.value.message
    assert "404" in caught.value.message


@pytest.fixture
def no_network(hub, monkeypatch):
    point_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize("sources", [[HUB], [MODELSCOPE], [HUB, MODELSCOPE]])
def test_without_a_network_nothing_is_tried_for_long(fetch, no_network, sources):
    watcher = Watcher()
    with pytest.raises(UnreachableError, match="no host that has it can be reached") as caught:
        fetch(*sources, progress=watcher)
    assert caught.value.message.count("it refuses connections") == len(sources)
    assert watcher.said == []


def test_without_a_network_the_cache_of_a_hub_serves_what_has_no_hash(hub, fetch, request):
    fetch(HUB, sha256=None)
    request.getfixturevalue("no_network")
    watcher = Watcher()
    assert fetch(HUB, sha256=None, progress=watcher).received == 0
    assert "of the cache is used" in watcher.said[-1]


def test_a_bundled_file_is_used_where_it_lies(fetch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.pt").write_bytes(CONTENT)
    source = {"kind": "file", "path": "models/m.pt"}
    found = fetch(source, base=tmp_path)
    assert found.path == tmp_path / "models" / "m.pt"
    assert found.received == 0


def test_a_file_beside_a_registry_that_is_another_one_is_refused(fetch, tmp_path):
    (tmp_path / "m.pt").write_bytes(OTHER)
    with pytest.raises(RegistryError, match="not the file that its registry names") as caught:
        fetch({"kind": "file", "path": "m.pt"}, base=tmp_path)
    assert "copy the bundle again" in caught.value.hint


def test_a_file_beside_a_registry_at_an_address_comes_from_there(fetch):
    with plain() as server:
        assert fetch({"kind": "file", "path": "a/m.pt"}, base=server.url).sha256 == SHA256
        assert server.asked("GET", "/a/m.pt")


def test_a_place_that_may_not_be_asked_does_not_hinder_the_others(fetch):
    with plain() as server:
        clear = {"kind": "https", "url": "http://mirror.example/m.pt"}
        assert fetch(clear, address(server)).sha256 == SHA256


def test_plain_http_to_a_hub_on_another_machine_is_refused(hub, fetch, monkeypatch):
    point_to(monkeypatch, "http://hub.example")
    with pytest.raises(ForbiddenAddressError, match="plain http"):
        fetch(HUB)
