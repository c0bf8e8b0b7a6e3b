"""Downloads from servers that fail, in one way each and at random."""

import errno
import hashlib
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from schemas.base.errors import TransferError, ZooError
from tests.zoo.transfer.faulty_server import Fault, Reply, http_date
from tests.zoo.transfer.watcher import (
    BREAK,
    DATA,
    GONE,
    HALF,
    NEWER,
    SHA256,
    SHORT,
    Watcher,
    content,
)
from zoo.transfer.remote import Download, WrongContentError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"


def test_a_file_arrives_whole_and_alone(server, fetch, tmp_path, names):
    page, watcher = server.serve("/model.pt", DATA), Watcher()
    found = fetch(page, progress=watcher)
    path = tmp_path / "model.pt"
    assert found == Download(path, SHA256, len(DATA), len(DATA), "mirror 0", page.url, page.etag)
    assert path.read_bytes() == DATA
    assert names() == ["model.pt"]
    assert (watcher.arrived, watcher.finished) == (len(DATA), 1)
    assert watcher.starts[-1] == ("model.pt", len(DATA), 0)
    assert fetch(page).received == 0  # the right file is here
    assert len(server.requests) == 1
    empty = hashlib.sha256().hexdigest()
    assert fetch(server.serve("/empty", b""), sha256=empty, size=0, name="e").size == 0


def test_another_file_of_that_name_is_replaced_when_the_new_one_is_complete(
    server, fetch, tmp_path
):
    (tmp_path / "model.pt").write_bytes(b"old")
    page = server.serve("/model.pt", DATA, faults=[GONE])
    with pytest.raises(TransferError):
        fetch(page)
    assert (tmp_path / "model.pt").read_bytes() == b"old"
    assert fetch(page).path.read_bytes() == DATA


@pytest.mark.parametrize(
    "fault",
    [BREAK, Fault(stall_after=HALF), Fault(length_delta=50), Fault(reset_after=HALF)],
    ids=["truncated", "stalled", "promised too much", "reset"],
)
@pytest.mark.parametrize("sha256", [SHA256, None], ids=["known", "unknown"])
def test_a_broken_transfer_goes_on_where_it_stopped(server, fetch, fault, sha256):
    page, watcher = server.serve("/model.pt", DATA, faults=[fault]), Watcher()
    found = fetch(page, sha256=sha256, progress=watcher)
    assert found.received == watcher.arrived == len(DATA)
    assert found.path.read_bytes() == DATA
    first, second, *_ = server.seen("/model.pt")
    assert "range" not in first.headers
    assert second.headers["if-range"] == page.etag


@pytest.mark.parametrize(
    ("etag", "changed", "condition"),
    [
        (None, http_date(1.7e9), http_date(1.7e9)),
        (None, None, None),
        ('W/"weak"', None, None),
    ],
)
def test_without_a_hash_only_a_strong_validator_lets_a_file_be_continued(
    server, fetch, etag, changed, condition
):
    page = server.serve("/model.pt", DATA, etag=etag, last_modified=changed, faults=[BREAK])
    assert fetch(page, sha256=None).path.read_bytes() == DATA
    second = server.seen("/model.pt")[1].headers
    assert second.get("if-range") == condition
    assert ("range" in second) == (condition is not None)


def test_a_server_without_range_sends_all_again(server, fetch):
    page = server.serve("/model.pt", DATA, ranges=False, faults=[BREAK])
    found = fetch(page)
    assert (found.received, found.path.read_bytes()) == (HALF + len(DATA), DATA)


@pytest.mark.parametrize("ignore", [False, True], ids=["if-range kept", "if-range ignored"])
def test_two_versions_are_never_mixed(server, fetch, ignore):
    faults = [BREAK, Fault(content=NEWER, ignore_if_range=ignore)]
    page = server.serve("/model.pt", DATA, faults=faults)
    found = fetch(page, sha256=None)
    assert (found.path.read_bytes(), found.etag) == (NEWER, page.etag)


def test_a_file_that_changes_all_the_time_is_given_up(server, fetch):
    faults = [Fault(content=content(400_000, n), truncate_after=HALF + n) for n in range(30)]
    with pytest.raises(TransferError, match="had to be begun 5 times"):
        fetch(server.serve("/model.pt", DATA, faults=faults), sha256=None)


def test_flipped_bits_are_noticed_and_the_file_fetched_once_more(server, fetch):
    found = fetch(server.serve("/model.pt", DATA, faults=[Fault(flip_at=HALF)]))
    assert (found.received, found.path.read_bytes()) == (2 * len(DATA), DATA)


def test_a_file_with_another_hash_never_gets_its_name(server, fetch, names):
    page = server.serve("/model.pt", NEWER)
    with pytest.raises(WrongContentError, match=f"{SHA256} expected") as caught:
        fetch(page)
    assert caught.value.found == hashlib.sha256(NEWER).hexdigest()
    assert names() == []
    assert len(server.seen("/model.pt")) == 2


def test_a_mirror_goes_on_in_the_middle_of_the_file(server, other_server, fetch):
    first = server.serve("/model.pt", DATA, faults=[BREAK])
    second = other_server.serve("/mirror/model.pt", DATA, etag='"another"')
    found = fetch(first, second)
    assert (found.received, found.source) == (len(DATA), "mirror 1")
    (asked,) = other_server.seen("/mirror/model.pt")
    assert asked.headers["range"] == f"bytes={HALF}-"
    assert "if-range" not in asked.headers


def test_without_a_hash_another_mirror_begins_again(server, other_server, fetch):
    first = server.serve("/model.pt", DATA, faults=[BREAK, Fault(status=410)])
    second = other_server.serve("/model.pt", NEWER)
    assert fetch(first, second, sha256=None).path.read_bytes() == NEWER


@pytest.mark.parametrize(
    "faults", [[], [BREAK] * 9, [Fault(status=429, retry_after="3600")]], ids=str
)
def test_a_mirror_that_is_wrong_or_wants_a_long_pause_is_left(server, other_server, fetch, faults):
    """Out of date, out of date and mixed with the right one, or busy for an hour."""
    first = server.serve("/model.pt", NEWER, faults=faults)
    found = fetch(first, other_server.serve("/model.pt", DATA))
    assert (found.source, found.path.read_bytes()) == ("mirror 1", DATA)


def test_errors_that_pass_are_asked_again_and_said(server, fetch):
    faults = [Fault(status=s) for s in (500, 502, 503)] + [Fault(status=429, retry_after="1")]
    watcher = Watcher()
    fetch(server.serve("/model.pt", DATA, faults=faults), progress=watcher)
    assert any("503 Service Unavailable" in line for line in watcher.said)
    assert any("trying again in 1.0 s" in line for line in watcher.said)


def test_a_source_is_given_up_after_enough_failures(server, fetch):
    page = server.serve("/model.pt", DATA, faults=[Fault(status=500)] * 99)
    with pytest.raises(TransferError, match="500 Internal Server Error"):
        fetch(page)
    assert len(server.seen("/model.pt")) == SHORT.attempts


def test_the_error_says_what_every_source_did_and_what_is_kept(server, other_server, fetch):
    first = server.serve("/model.pt", DATA, faults=[BREAK, GONE])
    second = other_server.serve("/model.pt", DATA, faults=[Fault(status=401)])
    with pytest.raises(TransferError) as caught:
        fetch(first, second)
    assert "mirror 0: it answers 404 Not Found; mirror 1: it answers 401" in caught.value.message
    assert "0.2 MB are kept" in str(caught.value.hint)


@pytest.mark.parametrize(
    "body",
    [b"<!DOCTYPE html>\n<html>Sign in</html>", b"\n<!-- x --><HTML lang='en'>", b"<script>1"],
)
def test_a_web_page_is_recognised_and_costs_nothing_that_is_here(server, fetch, names, body):
    faults = [BREAK, Fault(body=body, content_type="application/octet-stream")]
    page = server.serve("/model.pt", DATA, faults=faults)
    with pytest.raises(TransferError, match="a web page instead of the file"):
        fetch(page)
    assert "model.pt" not in names()
    assert fetch(page).received == len(DATA) - HALF
    page = server.serve("/card.html", body, content_type="text/html")
    assert fetch(page, sha256=None, name="card.html").size == len(body)  # where it is wanted


def compressed(server):
    return server.serve("/model.pt", DATA, headers={"Content-Encoding": "gzip"})


def another_part(server):
    headers = {"Content-Range": f"bytes 5-{len(DATA) - 1}/{len(DATA)}"}
    return server.answer("/model.pt", lambda _: Reply(206, DATA[5:], headers))


@pytest.mark.parametrize(
    ("serve", "options", "says"),
    [
        (lambda s: s.serve("/raw/model.pt", POINTER), {"sha256": None}, "Git LFS pointer"),
        (lambda s: s.serve("/m", DATA), {"size": 5000}, "400000 bytes, 5000 expected"),
        (compressed, {}, "compressed"),
        (another_part, {}, "another part"),
    ],
)
def test_what_is_not_the_file_is_refused_and_leaves_nothing(
    server, fetch, names, serve, options, says
):
    with pytest.raises(TransferError, match=says) as caught:
        fetch(serve(server), **options)
    assert caught.value.hint
    assert names() == []


def test_a_length_that_is_too_short_is_noticed_by_asking_for_more(server, fetch):
    page = server.serve("/model.pt", DATA, faults=[Fault(length_delta=-1000)])
    assert fetch(page, sha256=None).path.read_bytes() == DATA


def test_a_full_disk_is_said_before_anything_is_fetched(server, fetch, names, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    page = server.serve("/model.pt", DATA)
    with pytest.raises(TransferError, match=r"has 0 MB free, and model\.pt needs 1 MB more"):
        fetch(page, size=len(DATA))
    assert server.requests == []
    with pytest.raises(TransferError, match="MB more"):
        fetch(page)
    assert names() == []


@pytest.mark.parametrize(
    ("code", "says"), [(errno.ENOSPC, "is full"), (errno.EIO, "cannot be written in")]
)
def test_a_disk_that_fails_on_the_way_is_said(server, fetch, names, monkeypatch, code, says):
    def fail(*_):
        raise OSError(code, "the disk fails")

    monkeypatch.setattr("os.pwrite", fail)
    with pytest.raises(TransferError, match=says):
        fetch(server.serve("/model.pt", DATA))
    assert names() == []


def test_a_folder_or_a_file_in_the_way_is_said(server, fetch, tmp_path):
    page = server.serve("/model.pt", DATA)
    (tmp_path / "model.pt").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(TransferError, match="is a folder"):
        fetch(page)
    with pytest.raises(TransferError, match="cannot be written"):
        fetch(page, name="file/folder/model.pt")


def random_fault(rng, data, newer, elsewhere):
    """One or two things that go wrong with a reply."""
    place = rng.randrange(len(data))
    kinds = [
        {"truncate_after": place},
        {"flip_at": place},
        {"stall_after": place},
        {"reset_after": place},
        {"status": rng.choice([500, 502, 503, 504])},
        {"status": 429, "retry_after": rng.choice(["0", "900"])},
        {"redirect": elsewhere},
        {"no_range": True},
        {"length_delta": rng.randrange(1, 2000)},
        {"length_delta": -rng.randrange(1, 2000)},
        {"content": newer, "ignore_if_range": rng.random() < 0.3},
        {"body": b"<!DOCTYPE html><title>Sign in</title>"},
        {"body": POINTER, "content_type": "text/plain"},
    ]
    chosen = rng.sample(kinds, rng.choice([1, 1, 2]))
    return Fault(**{key: value for kind in chosen for key, value in kind.items()})


@pytest.mark.parametrize("seed", range(16))
def test_random_faults_end_with_the_right_bytes_or_a_clear_error(
    server, other_server, fetch, names, seed
):
    rng = random.Random(seed)
    data = content(rng.choice([3_000, 70_000, 400_000, 2_500_000]), seed)
    newer = content(len(data) + rng.choice([0, 1, -1000]), -1 - seed)
    pages = []
    for mirror in range(rng.choice([1, 2, 3])):
        host = rng.choice([server, other_server])
        elsewhere = other_server.serve(f"/elsewhere/{mirror}/model.pt", data).url
        count = rng.choice([1, 2, 3, 4]) if mirror == 0 else rng.choice([0, 1, 2])
        pages.append(
            host.serve(
                f"/{mirror}/model.pt",
                data,
                faults=[random_fault(rng, data, newer, elsewhere) for _ in range(count)],
                etag=rng.choice(["auto", "auto", None]),
                ranges=rng.random() < 0.85,
            )
        )
    sha256, size = hashlib.sha256(data).hexdigest(), rng.choice([len(data), None])
    try:
        found = fetch(*pages, sha256=sha256, size=size, policy=replace(SHORT, stall=0.15))
    except ZooError as error:
        said = error
        assert (bool(said.message), bool(said.hint)) == (True, True)
        assert "model.pt" not in names()
    else:
        assert found.path.read_bytes() == data
        assert names() == ["model.pt"]
