"""What one process leaves, another goes on with; of several, one works."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.base.errors import TransferError
from tests.zoo.transfer.faulty_server import Fault, FaultyServer
from tests.zoo.transfer.random_kills import MEBIBYTE, kill_and_resume
from tests.zoo.transfer.watcher import SHORT, Watcher, content
from zoo.transfer.download import download
from zoo.transfer.partial import is_abandoned
from zoo.transfer.remote import Download, Remote
from zoo.transfer.resume_state import ProcessId

DATA = content(400_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2
QUARTER = len(DATA) // 4
BREAK = Fault(truncate_after=HALF)
GONE = Fault(status=404)


def fetch(url: str, folder: Path, sha256: str | None = SHA256, **options: Any) -> Download:
    target = folder / "model.pt"
    remotes = [Remote(url, "server")]
    options.setdefault("patience", SHORT)
    return download(remotes, target, sha256=sha256, size=None, **options)


def left_half(server: FaultyServer, folder: Path, sha256: str | None = SHA256) -> tuple[str, Path]:
    """Leave half of the file behind; return its address and the partial file."""
    page = server.serve("/model.pt", DATA, faults=[BREAK, GONE])
    with pytest.raises(TransferError, match="404"):
        fetch(page.url, folder, sha256)
    (part,) = folder.glob(".model.pt.*.part")
    assert part.stat().st_size == HALF
    return page.url, part


def edit_journal(part: Path, **changes: Any) -> None:
    path = part.with_name(f"{part.name}.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def elsewhere(**changes: Any) -> dict[str, Any]:
    """Return the owner that a process on another machine would be."""
    return replace(
        ProcessId.current(), **({"host": "node17", "boot": "another"} | changes)
    ).document()


@pytest.mark.parametrize("known", [True, False])
def test_a_killed_download_is_resumed_with_at_most_a_mebibyte_again(
    tmp_path: Path, known: bool
) -> None:
    resumed = kill_and_resume(7, tmp_path, size=4 * MEBIBYTE, pace=4e6, known=known)
    assert resumed.right
    assert 0 < resumed.killed_at < 4 * MEBIBYTE
    assert resumed.again <= MEBIBYTE


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_a_failed_download_left_is_used(
    server: FaultyServer, tmp_path: Path, sha256: str | None
) -> None:
    url, _ = left_half(server, tmp_path, sha256)
    watcher = Watcher()
    assert fetch(url, tmp_path, sha256, progress=watcher).received == HALF
    assert watcher.starts[0] == ("model.pt", len(DATA), HALF)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_the_journal_holds_no_secret_of_the_address(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt?signature=secret", DATA, faults=[BREAK, GONE])
    remote = Remote(page.url, "server", headers={"Authorization": "Bearer secret"})
    with pytest.raises(TransferError):
        download([remote], tmp_path / "model.pt", sha256=SHA256, size=None, patience=SHORT)
    (journal,) = tmp_path.glob(".model.pt.*.json")
    assert "secret" not in journal.read_text()


def test_without_a_hash_only_the_same_address_goes_on(server: FaultyServer, tmp_path: Path) -> None:
    left_half(server, tmp_path, None)
    other = server.serve("/other/model.pt", DATA)
    assert fetch(other.url, tmp_path, None).received == len(DATA)


def test_with_a_hash_another_address_goes_on(server: FaultyServer, tmp_path: Path) -> None:
    left_half(server, tmp_path)
    other = server.serve("/other/model.pt", DATA)
    assert fetch(other.url, tmp_path).received == HALF


def test_without_a_hash_a_file_that_changed_meanwhile_begins_again(
    server: FaultyServer, tmp_path: Path
) -> None:
    url, _ = left_half(server, tmp_path, None)
    newer = content(len(DATA), seed=1)
    server.serve("/model.pt", newer)
    assert fetch(url, tmp_path, None).received == len(newer)
    assert (tmp_path / "model.pt").read_bytes() == newer


def test_a_partial_file_of_another_hash_is_not_used(server: FaultyServer, tmp_path: Path) -> None:
    left_half(server, tmp_path)
    newer = content(len(DATA), seed=1)
    page = server.serve("/model.pt", newer)
    found = fetch(page.url, tmp_path, hashlib.sha256(newer).hexdigest())
    assert found.received == len(newer)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_damaged_partial_file_is_noticed_and_fetched_again(
    server: FaultyServer, tmp_path: Path
) -> None:
    url, part = left_half(server, tmp_path)
    part.write_bytes(bytes(HALF))
    assert fetch(url, tmp_path).received == HALF + len(DATA)
    assert (tmp_path / "model.pt").read_bytes() == DATA


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1}'])
def test_a_damaged_journal_means_beginning_again(
    server: FaultyServer, tmp_path: Path, text: str
) -> None:
    url, part = left_half(server, tmp_path)
    part.with_name(f"{part.name}.json").write_text(text)
    assert fetch(url, tmp_path).received == len(DATA)


def test_after_a_crash_of_the_machine_only_synced_bytes_are_believed(
    server: FaultyServer, tmp_path: Path
) -> None:
    url, part = left_half(server, tmp_path)
    part.write_bytes(DATA[:QUARTER] + bytes(QUARTER))
    edit_journal(part, synced=QUARTER, owner=elsewhere(host=ProcessId.current().host))
    assert fetch(url, tmp_path).received == len(DATA) - QUARTER
    assert (tmp_path / "model.pt").read_bytes() == DATA


def test_after_a_kill_on_a_running_machine_all_written_bytes_are_believed(
    server: FaultyServer, tmp_path: Path
) -> None:
    url, part = left_half(server, tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    gone = replace(ProcessId.current(), process=process.pid, started="1").document()
    edit_journal(part, synced=0, owner=gone)
    assert fetch(url, tmp_path).received == HALF
    assert not part.exists()


def test_a_partial_file_of_another_machine_is_copied_and_left_alone(
    server: FaultyServer, tmp_path: Path
) -> None:
    url, part = left_half(server, tmp_path)
    edit_journal(part, owner=elsewhere())
    before = part.stat()
    assert fetch(url, tmp_path).received == HALF
    after = part.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not is_abandoned(part)


def test_two_writers_without_a_working_lock_do_not_disturb_each_other(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the file system granted every lock to everyone."""
    page = server.serve("/model.pt", DATA, pace=2e6, faults=[BREAK] * 4)
    monkeypatch.setattr("filelock.SoftFileLock.acquire", lambda *_, **__: None)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch(page.url, tmp_path), range(4)))
    assert {one.sha256 for one in found} == {SHA256}
    assert (tmp_path / "model.pt").read_bytes() == DATA


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_eight_processes_download_once(
    server: FaultyServer, tmp_path: Path, sha256: str | None
) -> None:
    page = server.serve("/model.pt", DATA, pace=4e5)
    program = [sys.executable, "-m", "tests.zoo.transfer.fetch_one"]
    program += [page.url, str(tmp_path / "model.pt"), sha256 or "-", "wait"]
    count = 8 if sha256 else 2
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(program, **pipes) for _ in range(count)]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:  # so that none is late by the time that its imports take
        process.stdin.write(b"\n")
        process.stdin.flush()
    replies = [json.loads(process.communicate()[0]) for process in processes]
    assert server.sent("/model.pt") == len(DATA)
    assert sorted(reply["received"] for reply in replies) == [0] * (count - 1) + [len(DATA)]
    assert {reply["sha256"] for reply in replies} == {SHA256}
    assert any("waiting for" in line for reply in replies for line in reply["said"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_lock_of_a_process_that_is_gone_is_taken_over_at_once(
    server: FaultyServer, tmp_path: Path
) -> None:
    lock = "import filelock, os, sys; a = filelock.SoftFileLock(sys.argv[1]); a.acquire(); "
    lock += "os._exit(9)"
    marker = tmp_path / ".model.pt.lock"
    subprocess.run([sys.executable, "-c", lock, str(marker)], check=False)
    assert marker.exists()
    patience = replace(SHORT, silence=3600.0)
    remotes = [Remote(server.serve("/model.pt", DATA).url, "server")]
    download(remotes, tmp_path / "model.pt", sha256=SHA256, size=None, patience=patience)
    assert not marker.exists()


def test_a_lock_of_another_machine_is_taken_over_after_its_silence(
    server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / ".model.pt.lock").write_text("1234\nnode17\n")
    watcher = Watcher()
    url = server.serve("/model.pt", DATA).url
    fetch(url, tmp_path, progress=watcher, patience=replace(SHORT, silence=0.3))
    assert watcher.said[0] == "waiting for process 1234 on node17, which is fetching model.pt"
    assert "no sign of life" in watcher.said[1]


def test_a_lock_of_another_machine_that_shows_life_is_respected(
    server: FaultyServer, tmp_path: Path
) -> None:
    marker = tmp_path / ".model.pt.lock"
    marker.write_text("1234\nnode17\n")
    ended = threading.Event()

    def live() -> None:
        for _ in range(30):
            os.utime(marker)
            time.sleep(SHORT.heartbeat)
        (tmp_path / "model.pt").write_bytes(DATA)
        marker.unlink()
        ended.set()

    thread = threading.Thread(target=live)
    thread.start()
    url = server.serve("/model.pt", DATA).url
    assert fetch(url, tmp_path, patience=replace(SHORT, silence=1.0)).received == 0
    assert ended.is_set()
    thread.join()
    assert server.requests == []


def test_a_folder_that_cannot_be_made_is_an_error_for_people(
    server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransferError, match="cannot be written"):
        fetch(server.serve("/model.pt", DATA).url, tmp_path / "file" / "folder")
