"""The cache: files under their hashes, trusted on first use where no hash is known."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.base.errors import TransferError
from tests.zoo.transfer.watcher import BREAK, DATA, GONE, HALF, NEWER, SHA256, SHORT
from zoo.cache import Store
from zoo.transfer.remote import Remote, WrongContentError


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache", policy=SHORT)


def serve(server, data=DATA, **options):
    return [Remote(server.serve("/model.pt", data, **options).url, "server")]


def get(store, remotes, sha256=SHA256, **options):
    return store.fetch(remotes, "model.pt", sha256=sha256, size=None, **options).path


def test_a_file_lies_under_its_hash_and_is_fetched_once(server, store):
    path = get(store, serve(server))
    assert path == store.root / "sha256" / SHA256[:2] / SHA256 / "model.pt"
    assert path.read_bytes() == DATA
    found = store.fetch([], "model.pt", sha256=SHA256, size=None, offline=True)
    assert (found.path, found.received, found.source) == (path, 0, "this machine")
    other = store.fetch([], "other.pt", sha256=SHA256, size=None).path
    assert other.name == "other.pt"
    assert other.samefile(path)
    assert len(server.requests) == 1


def test_a_file_is_hashed_again_only_when_it_was_touched(server, store, monkeypatch):
    path = get(store, serve(server))
    hashed = []
    real = hashlib.file_digest

    def counted(stream, name):
        hashed.append(path)
        return real(stream, name)

    monkeypatch.setattr("hashlib.file_digest", counted)
    assert store.find(SHA256) == path
    assert hashed == []
    os.utime(path, ns=(1, 1))
    assert store.find(SHA256) == path
    assert len(hashed) == 1
    assert store.find(SHA256) == path
    assert len(hashed) == 1


def test_a_damaged_file_is_fetched_again(server, store):
    path = get(store, serve(server))
    path.write_bytes(b"damaged")
    assert store.find(SHA256) is None
    assert get(store, serve(server)).read_bytes() == DATA


def test_verify_finds_what_a_mark_hides(server, store):
    path = get(store, serve(server))
    before = path.stat()
    path.write_bytes(DATA[:-1] + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.find(SHA256) == path
    assert [entry.path for entry in store.verify()] == [path]
    assert store.find(SHA256) is None


def test_offline_says_what_is_missing_and_the_command(server, store, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(TransferError, match=r"model\.pt is not in the cache") as caught:
        get(store, serve(server))
    assert f"`zoo pull {server.url}/model.pt`" in str(caught.value.hint)
    with pytest.raises(TransferError) as caught:
        store.fetch([], "a", sha256=None, size=None, offline=True, command="zoo pull DPA2_medium")
    assert "`zoo pull DPA2_medium` fetches it" in str(caught.value.hint)
    assert server.requests == []


def test_the_first_download_of_an_address_is_trusted(server, store):
    path = get(store, serve(server), None)
    assert path.parent.name == SHA256
    server.requests.clear()
    assert get(store, serve(server), None, offline=True) == path
    assert server.requests == []
    assert not list((store.root / "incoming").iterdir())


def test_a_file_that_changed_since_its_first_use_is_an_error_that_says_so(server, store):
    get(store, serve(server), None)
    store.remove(SHA256)
    newer = hashlib.sha256(NEWER).hexdigest()
    with pytest.raises(WrongContentError, match="has changed since it was first used") as caught:
        get(store, serve(server, NEWER), None)
    assert SHA256 in str(caught.value)
    assert caught.value.found == newer
    assert store.entries() == []
    assert store.forget(SHA256) == [f"{server.url}/model.pt"]
    assert get(store, serve(server, NEWER), None).parent.name == newer


def test_the_index_of_first_uses_holds_no_secrets(server, store):
    page = server.serve("/model.pt?signature=secret", DATA)
    get(store, [Remote(page.url, "server", headers={"Authorization": "secret"})], None)
    (index,) = (store.root / "first-use").glob("*.json")
    assert "secret" not in index.read_text()
    assert page.etag is not None
    assert page.etag.strip('"') in index.read_text()
    assert store.first_use([page.url]).sha256 == SHA256
    index.write_text(index.read_text().replace(f'"{SHA256}"', "5"))
    assert store.first_use([page.url]) is None  # damaged


def test_of_several_first_uses_at_once_one_downloads(server, store):
    remotes = serve(server, pace=1e6)
    start = threading.Barrier(4)

    def fetch(_):
        start.wait()
        return get(store, remotes, None)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(fetch, range(4)))) == 1
    assert server.sent("/model.pt") == len(DATA)


def test_entries_and_sizes(server, store):
    path = get(store, serve(server))
    (entry,) = store.entries()
    assert (entry.path, entry.sha256, entry.size) == (path, SHA256, len(DATA))
    assert store.remove(SHA256) == len(DATA)
    assert store.entries() == []
    assert store.remove(SHA256) == 0


def test_prune_removes_what_a_failed_download_left(server, store):
    with pytest.raises(TransferError):
        get(store, serve(server, faults=[BREAK, GONE]))
    assert store.prune(dry_run=True).freed == HALF
    assert store.prune().freed == HALF
    assert store.prune().paths == []
    assert not list((store.root / "sha256").iterdir())


def test_prune_removes_files_that_were_not_used_for_long(server, store):
    path = get(store, serve(server))
    mark = path.with_name(".model.pt.verified")
    os.utime(mark, (1, 1))
    store.find(SHA256)  # use is what keeps a file
    assert store.prune(older_than=3600).paths == []
    os.utime(mark, (1, 1))
    assert store.prune(older_than=3600).paths == [path]
    assert store.entries() == []


@pytest.mark.parametrize("name", ["", "..", "../model.pt", "a/b", "a\\b", ".hidden", "a\0b"])
def test_a_name_cannot_lead_out_of_the_cache(store, name):
    with pytest.raises(TransferError, match="cannot be the name"):
        store.fetch([], name, sha256=SHA256, size=None)


@pytest.mark.parametrize("sha256", ["../../x", SHA256.upper(), SHA256[:-1]])
def test_what_is_no_hash_names_no_folder(store, sha256):
    with pytest.raises(ValueError, match="not a SHA-256"):
        store.find(sha256)
