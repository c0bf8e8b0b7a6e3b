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
from zoo.transfer.partial import file_lock, is_abandoned
from zoo.transfer.remote import Download, Remote

DATA = content(400_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2
QUARTER = len(DATA) // 4
BREAK = Fault(truncate_after=HALF)
GONE = Fault(status=404)


def fetch(url: str, folder: Path, sha256: str | None = SHA256, **options: Any) -> Download:
    target = folder / "model.pt"
    remotes = [Remote(url, "server")]
    options.setdefault("policy", SHORT)
    return download(remotes, target, sha256=sha256, size=None, **options)


def left_half(server: FaultyServer, folder: Path, sha256: str | None = SHA256) -> tuple[str, Path]:
    """Leave half of the file behind; return its address and the partial file."""
    page = server.serve("/model.pt", DATA, faults=[BREAK, GONE])
    with pytest.raises(TransferError, match="404"):
        fetch(page.url, folder, sha256)
    (part,) = folder.glob(".model.pt.*.part")
    assert part.stat().st_size == HALF
    return page.url, part


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


def test_the_state_holds_no_secret_of_the_address(server: FaultyServer, tmp_path: Path) -> None:
    page = server.serve("/model.pt?signature=secret", DATA, faults=[BREAK, GONE])
    remote = Remote(page.url, "server", headers={"Authorization": "Bearer secret"})
    with pytest.raises(TransferError):
        download([remote], tmp_path / "model.pt", sha256=SHA256, size=None, policy=SHORT)
    (state,) = tmp_path.glob(".model.pt.*.json")
    assert "secret" not in state.read_text()


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


@pytest.mark.parametrize("known", [True, False])
def test_only_bytes_that_the_state_proves_are_believed(
    server: FaultyServer, tmp_path: Path, known: bool
) -> None:
    """As after a crash of the machine: the end of the file was never written."""
    data = content(1_500_000)
    sha256 = hashlib.sha256(data).hexdigest() if known else None
    page = server.serve("/model.pt", data, faults=[Fault(truncate_after=1_200_000), GONE])
    with pytest.raises(TransferError):
        fetch(page.url, tmp_path, sha256)
    (part,) = tmp_path.glob(".model.pt.*.part")
    left = part.read_bytes()
    part.write_bytes(left[:900_000] + bytes(300_000))
    found = fetch(page.url, tmp_path, sha256)
    assert 600_000 <= found.received <= 600_000 + (1 << 20)
    assert (tmp_path / "model.pt").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 5}', '{"length": 5, "digest": 7}'])
def test_a_damaged_state_means_beginning_again(
    server: FaultyServer, tmp_path: Path, text: str
) -> None:
    url, part = left_half(server, tmp_path)
    part.with_name(f"{part.name}.json").write_text(text)
    assert fetch(url, tmp_path).received == len(DATA)


def test_without_a_working_lock_there_is_never_a_wrong_file(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the file system granted every lock to everyone: who lost its partial file stops."""
    page = server.serve("/model.pt", DATA, pace=2e6, faults=[BREAK] * 4)
    monkeypatch.setattr("filelock.SoftFileLock.acquire", lambda *_, **__: None)

    def run(_: int) -> str:
        try:
            return fetch(page.url, tmp_path).sha256
        except TransferError as error:
            return error.message

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(run, range(4)))
    assert SHA256 in found
    assert found <= {SHA256, "another process has taken over the transfer of model.pt"}
    assert (tmp_path / "model.pt").read_bytes() == DATA


def test_a_partial_file_is_abandoned_when_nobody_holds_its_lock(
    server: FaultyServer, tmp_path: Path
) -> None:
    _, part = left_half(server, tmp_path)
    with file_lock(tmp_path / "model.pt", SHORT, Watcher()):
        assert not is_abandoned(part)
        os.utime(part, (1, 1))
        assert is_abandoned(part)
    assert is_abandoned(part)


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
    download(remotes, tmp_path / "model.pt", sha256=SHA256, size=None, policy=patience)
    assert not marker.exists()


def test_a_lock_of_another_machine_is_taken_over_after_its_silence(
    server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / ".model.pt.lock").write_text("1234\nnode17\n")
    watcher = Watcher()
    url = server.serve("/model.pt", DATA).url
    fetch(url, tmp_path, progress=watcher, policy=replace(SHORT, silence=0.3))
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
    assert fetch(url, tmp_path, policy=replace(SHORT, silence=1.0)).received == 0
    assert ended.is_set()
    thread.join()
    assert server.requests == []


def test_a_folder_that_cannot_be_made_is_an_error_for_people(
    server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransferError, match="cannot be written"):
        fetch(server.serve("/model.pt", DATA).url, tmp_path / "file" / "folder")
