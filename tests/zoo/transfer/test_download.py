"""A download from servers that fail in one way each."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.base.errors import TransferError
from tests.zoo.transfer.faulty_server import Fault, FaultyServer, Reply, http_date
from tests.zoo.transfer.random_faults import run_cases
from tests.zoo.transfer.watcher import SHORT, Watcher, content
from zoo.transfer.download import download
from zoo.transfer.remote import Download, Remote, WrongContentError

DATA = content(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2


def fetch(
    remotes: str | Sequence[Remote],
    folder: Path,
    *,
    sha256: str | None = SHA256,
    size: int | None = None,
    watcher: Watcher | None = None,
) -> Download:
    if isinstance(remotes, str):
        remotes = [Remote(remotes, "server")]
    return download(
        remotes,
        folder / "model.pt",
        sha256=sha256,
        size=size,
        progress=watcher,
        policy=SHORT,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_alone(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA)
    watcher = Watcher()
    found = fetch(page.url, tmp_path, watcher=watcher)
    assert found == Download(
        tmp_path / "model.pt", SHA256, len(DATA), len(DATA), "server", page.url, page.etag
    )
    assert (tmp_path / "model.pt").read_bytes() == DATA
    assert names(tmp_path) == ["model.pt"]
    assert watcher.arrived == len(DATA)
    assert watcher.starts[-1] == ("model.pt", len(DATA), 0)
    assert watcher.finished == 1


def test_an_empty_file_is_a_file(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", b"")
    found = fetch(page.url, tmp_path, sha256=hashlib.sha256().hexdigest(), size=0)
    assert (found.size, (tmp_path / "model.pt").read_bytes()) == (0, b"")


def test_a_right_file_that_is_here_needs_no_network(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA)
    (tmp_path / "model.pt").write_bytes(DATA)
    assert fetch(page.url, tmp_path).received == 0
    assert server.requests == []


def test_another_file_of_that_name_is_replaced_when_the_new_one_is_complete(
    server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / "model.pt").write_bytes(b"old")
    page = server.serve("/model.pt", DATA, faults=[Fault(status=404)])
    with pytest.raises(TransferError):
        fetch(page.url, tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == b"old"
    fetch(page.url, tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == DATA


@pytest.mark.parametrize(
    "fault",
    [Fault(truncate_after=HALF), Fault(stall_after=HALF), Fault(length_delta=50)],
    ids=["truncated", "stalled", "promised too much"],
)
@pytest.mark.parametrize("sha256", [SHA256, None], ids=["known", "unknown"])
def test_a_broken_transfer_goes_on_where_it_stopped(
    server: FaultyServer, tmp_path: Path, fault: Fault, sha256: str | None
) -> None:
    page = server.serve("/model.pt", DATA, faults=[fault])
    assert fetch(page.url, tmp_path, sha256=sha256).received == len(DATA)
    assert server.sent("/model.pt") == len(DATA)
    assert (tmp_path / "model.pt").read_bytes() == DATA


def test_the_rest_is_asked_for_with_if_range(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA, faults=[Fault(truncate_after=HALF)])
    fetch(page.url, tmp_path)
    first, second = server.seen("/model.pt")
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={HALF}-"
    assert second.headers["if-range"] == page.etag


def test_without_an_etag_the_time_of_change_is_the_condition(
    server: FaultyServer, tmp_path: Path
) -> None:
    changed = http_date(1.7e9)
    page = server.serve(
        "/model.pt",
        DATA,
        etag=None,
        last_modified=changed,
        faults=[Fault(truncate_after=HALF)],
    )
    fetch(page.url, tmp_path, sha256=None)
    assert server.seen("/model.pt")[1].headers["if-range"] == changed


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_hash_or_a_strong_validator_nothing_is_continued(
    server: FaultyServer, tmp_path: Path, etag: str | None
) -> None:
    page = server.serve("/model.pt", DATA, etag=etag, faults=[Fault(truncate_after=HALF)])
    fetch(page.url, tmp_path, sha256=None)
    assert "range" not in server.seen("/model.pt")[1].headers
    assert (tmp_path / "model.pt").read_bytes() == DATA


def test_a_reset_costs_no_byte_that_arrived(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA, faults=[Fault(reset_after=HALF)])
    watcher = Watcher()
    assert fetch(page.url, tmp_path, watcher=watcher).received == len(DATA)
    assert watcher.arrived == len(DATA)


def test_a_server_without_range_sends_all_again(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA, ranges=False, faults=[Fault(truncate_after=HALF)])
    assert fetch(page.url, tmp_path).received == HALF + len(DATA)
    assert (tmp_path / "model.pt").read_bytes() == DATA


@pytest.mark.parametrize("ignore", [False, True], ids=["if-range kept", "if-range ignored"])
def test_two_versions_are_never_mixed(server: FaultyServer, tmp_path: Path, ignore: bool) -> None:
    newer = content(len(DATA), seed=1)
    faults = [Fault(truncate_after=HALF), Fault(content=newer, ignore_if_range=ignore)]
    page = server.serve("/model.pt", DATA, faults=faults)
    found = fetch(page.url, tmp_path, sha256=None)
    assert (tmp_path / "model.pt").read_bytes() == newer
    assert found.etag == page.etag


def test_a_file_that_changes_all_the_time_is_given_up(server: FaultyServer, tmp_path: Path) -> None:
    faults = [
        Fault(content=content(len(DATA), seed), truncate_after=HALF + seed) for seed in range(30)
    ]
    page = server.serve("/model.pt", DATA, faults=faults)
    with pytest.raises(TransferError, match="had to be begun 5 times"):
        fetch(page.url, tmp_path, sha256=None)


def test_flipped_bits_are_noticed_and_the_file_fetched_once_more(
    server: FaultyServer, tmp_path: Path
) -> None:
    page = server.serve("/model.pt", DATA, faults=[Fault(flip_at=HALF)])
    assert fetch(page.url, tmp_path).received == 2 * len(DATA)
    assert (tmp_path / "model.pt").read_bytes() == DATA


def test_a_file_with_another_hash_never_gets_its_name(server: FaultyServer, tmp_path: Path) -> None:
    superseded = content(len(DATA), seed=2)
    page = server.serve("/model.pt", superseded)
    with pytest.raises(WrongContentError, match=f"{SHA256} expected") as caught:
        fetch(page.url, tmp_path)
    assert caught.value.found == hashlib.sha256(superseded).hexdigest()
    assert names(tmp_path) == []
    assert len(server.seen("/model.pt")) == 2


def test_a_mirror_goes_on_in_the_middle_of_the_file(
    server: FaultyServer, other_server: FaultyServer, tmp_path: Path
) -> None:
    first = server.serve("/model.pt", DATA, faults=[Fault(truncate_after=HALF)])
    second = other_server.serve("/mirror/model.pt", DATA, etag='"another"')
    remotes = [Remote(first.url, "first"), Remote(second.url, "second")]
    found = fetch(remotes, tmp_path)
    assert (found.received, found.source) == (len(DATA), "second")
    (asked,) = other_server.seen("/mirror/model.pt")
    assert asked.headers["range"] == f"bytes={HALF}-"
    assert "if-range" not in asked.headers


def test_without_a_hash_another_mirror_begins_again(
    server: FaultyServer, other_server: FaultyServer, tmp_path: Path
) -> None:
    first = server.serve("/model.pt", DATA, faults=[Fault(truncate_after=HALF), Fault(status=410)])
    newer = content(len(DATA), seed=3)
    second = other_server.serve("/mirror/model.pt", newer)
    fetch([Remote(first.url, "first"), Remote(second.url, "second")], tmp_path, sha256=None)
    assert (tmp_path / "model.pt").read_bytes() == newer


def test_a_mixture_that_is_wrong_is_fetched_again_from_one_source(
    server: FaultyServer, other_server: FaultyServer, tmp_path: Path
) -> None:
    wrong = content(len(DATA), seed=4)
    first = server.serve("/model.pt", wrong, faults=[Fault(truncate_after=HALF)] * 9)
    second = other_server.serve("/mirror/model.pt", DATA)
    found = fetch([Remote(first.url, "first"), Remote(second.url, "second")], tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == DATA
    assert found.source == "second"


def test_a_mirror_that_is_out_of_date_is_left_for_one_that_is_not(
    server: FaultyServer, other_server: FaultyServer, tmp_path: Path
) -> None:
    first = server.serve("/model.pt", content(len(DATA), seed=5))
    second = other_server.serve("/mirror/model.pt", DATA)
    assert fetch([Remote(first.url, "1"), Remote(second.url, "2")], tmp_path).source == "2"


def test_errors_that_pass_are_asked_again_and_said(server: FaultyServer, tmp_path: Path) -> None:
    faults = [Fault(status=status) for status in (500, 502, 503)]
    watcher = Watcher()
    page = server.serve("/model.pt", DATA, faults=faults)
    fetch(page.url, tmp_path, watcher=watcher)
    assert any("503 Service Unavailable" in line for line in watcher.said)


def test_a_source_is_given_up_after_enough_failures(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA, faults=[Fault(status=500)] * 99)
    with pytest.raises(TransferError, match="500 Internal Server Error"):
        fetch(page.url, tmp_path)
    assert len(server.seen("/model.pt")) == SHORT.attempts


def test_retry_after_is_waited_for_and_said(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA, faults=[Fault(status=429, retry_after="1")])
    watcher = Watcher()
    fetch(page.url, tmp_path, watcher=watcher)
    assert any("trying again in 1.0 s" in line for line in watcher.said)


def test_a_server_that_asks_for_too_long_a_pause_is_left_for_the_next(
    server: FaultyServer, other_server: FaultyServer, tmp_path: Path
) -> None:
    first = server.serve("/model.pt", DATA, faults=[Fault(status=429, retry_after="3600")])
    second = other_server.serve("/mirror/model.pt", DATA)
    found = fetch([Remote(first.url, "first"), Remote(second.url, "second")], tmp_path)
    assert found.source == "second"


def test_the_error_says_what_every_source_did_and_what_is_kept(
    server: FaultyServer, other_server: FaultyServer, tmp_path: Path
) -> None:
    first = server.serve("/model.pt", DATA, faults=[Fault(truncate_after=HALF), Fault(status=404)])
    second = other_server.serve("/mirror/model.pt", DATA, faults=[Fault(status=401)])
    with pytest.raises(TransferError) as caught:
        fetch([Remote(first.url, "first"), Remote(second.url, "second")], tmp_path)
    assert "first: it answers 404 Not Found; second: it answers 401" in caught.value.message
    assert "0.1 MB are kept" in str(caught.value.hint)


@pytest.mark.parametrize(
    "page",
    [b"<!DOCTYPE html>\n<html>Sign in</html>", b"\n<!-- x --><HTML lang='en'>", b"<script>1"],
)
def test_a_web_page_is_recognised_and_costs_nothing_that_is_here(
    server: FaultyServer, tmp_path: Path, page: bytes
) -> None:
    faults = [Fault(truncate_after=HALF), Fault(body=page, content_type="application/octet-stream")]
    served = server.serve("/model.pt", DATA, faults=faults)
    with pytest.raises(TransferError, match="a web page instead of the file"):
        fetch(served.url, tmp_path)
    assert not (tmp_path / "model.pt").exists()
    assert fetch(served.url, tmp_path).received == len(DATA) - HALF


def test_a_git_lfs_pointer_is_recognised(server: FaultyServer, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize 300000\n"
    page = server.serve("/raw/model.pt", pointer.encode(), content_type="text/plain")
    with pytest.raises(TransferError, match="Git LFS pointer") as caught:
        fetch(page.url, tmp_path, sha256=None)
    assert "resolve" in str(caught.value.hint)
    assert names(tmp_path) == []


def test_a_page_that_is_wanted_may_be_a_page(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/card.html", b"<!DOCTYPE html>card", content_type="text/html")
    remote = Remote(page.url, "server")
    download([remote], tmp_path / "card.html", sha256=None, size=None, policy=SHORT)
    assert names(tmp_path) == ["card.html"]


def test_another_size_than_expected_is_refused_before_it_is_fetched(
    server: FaultyServer, tmp_path: Path
) -> None:
    page = server.serve("/model.pt", DATA)
    with pytest.raises(TransferError, match="300000 bytes, 5000 expected"):
        fetch(page.url, tmp_path, sha256=None, size=5000)
    assert names(tmp_path) == []


def test_a_length_that_is_too_short_is_noticed_by_asking_for_more(
    server: FaultyServer, tmp_path: Path
) -> None:
    page = server.serve("/model.pt", DATA, faults=[Fault(length_delta=-1000)])
    fetch(page.url, tmp_path, sha256=None)
    assert (tmp_path / "model.pt").read_bytes() == DATA


def test_compression_that_nobody_asked_for_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt", DATA, headers={"Content-Encoding": "gzip"})
    with pytest.raises(TransferError, match="compressed"):
        fetch(page.url, tmp_path)


def test_a_part_that_was_not_asked_for_is_not_used(server: FaultyServer, tmp_path: Path) -> None:
    headers = {"Content-Range": f"bytes 5-{len(DATA) - 1}/{len(DATA)}"}
    url = server.answer("/model.pt", lambda _: Reply(206, DATA[5:], headers))
    with pytest.raises(TransferError, match="another part"):
        fetch(url, tmp_path)


def test_a_full_disk_is_said_before_anything_is_fetched(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    page = server.serve("/model.pt", DATA)
    with pytest.raises(TransferError, match=r"has 0 MB free, and model\.pt needs 1 MB more"):
        fetch(page.url, tmp_path, size=len(DATA))
    assert server.requests == []
    with pytest.raises(TransferError, match="MB more"):
        fetch(page.url, tmp_path)
    assert names(tmp_path) == []


def test_a_folder_in_the_way_is_said(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "model.pt").mkdir()
    with pytest.raises(TransferError, match="is a folder"):
        fetch(server.serve("/model.pt", DATA).url, tmp_path)


def test_random_faults_end_with_the_right_bytes_or_a_clear_error(tmp_path: Path) -> None:
    outcomes = run_cases(range(1000, 1012), tmp_path)
    assert [outcome.problem for outcome in outcomes if outcome.problem] == []
    assert {outcome.arrived for outcome in outcomes} == {True, False}
