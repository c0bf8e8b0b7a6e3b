"""What one process leaves, another goes on with; of several, one works."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from schemas.base.errors import TransferError
from tests.zoo.transfer.faulty_server import Fault
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
from zoo.transfer.partial import file_lock, is_abandoned
from zoo.transfer.remote import Remote


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_a_failed_download_left_is_used(fetch, left_half, names, sha256):
    page, _ = left_half(sha256)
    watcher = Watcher()
    assert fetch(page, sha256=sha256, progress=watcher).received == HALF
    assert watcher.starts[0] == ("model.pt", len(DATA), HALF)
    assert names() == ["model.pt"]


def test_the_state_holds_no_secret_of_the_address(server, fetch, tmp_path):
    page = server.serve("/model.pt?signature=secret", DATA, faults=[BREAK, GONE])
    with pytest.raises(TransferError):
        fetch(Remote(page.url, "server", headers={"Authorization": "Bearer secret"}))
    (state,) = tmp_path.glob(".model.pt.*.json")
    assert "secret" not in state.read_text()


def test_another_address_goes_on_only_where_the_hash_is_known(server, fetch, left_half):
    left_half()
    assert fetch(server.serve("/other/model.pt", DATA)).received == HALF


@pytest.mark.parametrize(
    ("sha256", "path", "data"),
    [
        (None, "/other/model.pt", DATA),
        (None, "/model.pt", NEWER),
        (hashlib.sha256(NEWER).hexdigest(), "/model.pt", NEWER),
    ],
    ids=["another address", "changed meanwhile", "another hash"],
)
def test_a_partial_file_of_something_else_is_not_used(
    server, fetch, left_half, names, sha256, path, data
):
    left_half(None if sha256 is None else SHA256)
    found = fetch(server.serve(path, data), sha256=sha256)
    assert (found.received, found.path.read_bytes()) == (len(data), data)
    assert names() == ["model.pt"]


@pytest.mark.parametrize("known", [True, False])
def test_only_bytes_that_the_state_proves_are_believed(server, fetch, tmp_path, names, known):
    """As after a crash of the machine: the end of the file was never written."""
    data = content(1_500_000)
    sha256 = hashlib.sha256(data).hexdigest() if known else None
    page = server.serve("/model.pt", data, faults=[Fault(truncate_after=1_200_000), GONE])
    with pytest.raises(TransferError):
        fetch(page, sha256=sha256)
    (part,) = tmp_path.glob(".model.pt.*.part")
    part.write_bytes(part.read_bytes()[:900_000] + bytes(300_000))
    found = fetch(page, sha256=sha256)
    assert 600_000 <= found.received <= 600_000 + (1 << 20)
    assert (found.path.read_bytes(), names()) == (data, ["model.pt"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 5}', '{"length": 5, "digest": 7}'])
def test_a_damaged_state_means_beginning_again(fetch, left_half, text):
    page, part = left_half()
    part.with_name(f"{part.name}.json").write_text(text)
    assert fetch(page).received == len(DATA)


def test_without_a_working_lock_there_is_never_a_wrong_file(server, fetch, tmp_path, monkeypatch):
    """As if the file system granted every lock to everyone: who lost its partial file stops."""
    page = server.serve("/model.pt", DATA, pace=2e6, faults=[BREAK] * 4)
    monkeypatch.setattr("filelock.SoftFileLock.acquire", lambda *_, **__: None)

    def run(_):
        try:
            return fetch(page).sha256
        except TransferError as error:
            return error.message

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(run, range(4)))
    assert SHA256 in found
    assert found <= {SHA256, "another process has taken over the transfer of model.pt"}
    assert (tmp_path / "model.pt").read_bytes() == DATA


def test_a_partial_file_is_abandoned_when_nobody_holds_its_lock(left_half, tmp_path):
    _, part = left_half()
    with file_lock(tmp_path / "model.pt", SHORT, Watcher()):
        assert not is_abandoned(part)
        os.utime(part, (1, 1))
        assert is_abandoned(part)
    assert is_abandoned(part)


def start(page, target, sha256, *more):
    command = [
        sys.executable,
        "-m",
        "tests.zoo.transfer.watcher",
        page.url,
        target,
        sha256 or "-",
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([*map(str, command), *more], **pipes)


@pytest.mark.parametrize("known", [True, False])
def test_a_killed_download_is_resumed_with_at_most_a_mebibyte_again(
    server, fetch, tmp_path, names, known
):
    data = content(4 << 20, 7)
    sha256 = hashlib.sha256(data).hexdigest() if known else None
    page = server.serve("/model.pt", data, pace=4e6)
    with start(page, tmp_path / "model.pt", sha256) as process:
        while sum(path.stat().st_size for path in tmp_path.glob(".*.part")) < 2 << 20:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    page.pace = None
    found = fetch(page, sha256=sha256)
    assert (found.path.read_bytes(), names()) == (data, ["model.pt"])
    assert server.sent("/model.pt") - len(data) <= 1 << 20


@pytest.mark.parametrize(("sha256", "count"), [(SHA256, 8), (None, 2)])
def test_several_processes_download_once(server, tmp_path, names, sha256, count):
    page = server.serve("/model.pt", DATA, pace=4e5)
    processes = [start(page, tmp_path / "model.pt", sha256, "wait") for _ in range(count)]
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
    assert names() == ["model.pt"]


def test_a_lock_of_a_process_that_is_gone_is_taken_over_at_once(server, fetch, tmp_path, names):
    lock = "import filelock, os, sys; a = filelock.SoftFileLock(sys.argv[1]); a.acquire(); "
    marker = tmp_path / ".model.pt.lock"
    subprocess.run([sys.executable, "-c", f"{lock}os._exit(9)", str(marker)], check=False)
    assert marker.exists()
    fetch(server.serve("/model.pt", DATA), policy=replace(SHORT, silence=3600.0))
    assert names() == ["model.pt"]


def test_a_lock_of_another_machine_is_taken_over_after_its_silence(server, fetch, tmp_path):
    (tmp_path / ".model.pt.lock").write_text("1234\nnode17\n")
    watcher, policy = Watcher(), replace(SHORT, silence=0.3)
    fetch(server.serve("/model.pt", DATA), progress=watcher, policy=policy)
    assert watcher.said[0] == "waiting for process 1234 on node17, which is fetching model.pt"
    assert "no sign of life" in watcher.said[1]


def test_a_lock_of_another_machine_that_shows_life_is_respected(server, fetch, tmp_path):
    marker = tmp_path / ".model.pt.lock"
    marker.write_text("1234\nnode17\n")

    def live():
        for _ in range(30):
            os.utime(marker)
            time.sleep(SHORT.heartbeat)
        (tmp_path / "model.pt").write_bytes(DATA)
        marker.unlink()

    thread = threading.Thread(target=live)
    thread.start()
    page = server.serve("/model.pt", DATA)
    assert fetch(page, policy=replace(SHORT, silence=1.0)).received == 0
    thread.join()
    assert server.requests == []
