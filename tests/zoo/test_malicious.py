"""No file of an attacker is believed: not by the reader without torch, not on the way to torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from schemas.base.errors import CheckpointError
from schemas.checkpoint.header import read_header
from tests.commands import outcome
from tests.zoo.malicious import CANARY, NAME, archive, cases
from tests.zoo.transfer.faulty_server import FaultyServer
from zoo.remote_branch import fetch_branch, remote_header
from zoo.transfer.remote import Remote

ROOT = Path(__file__).parents[2]
ALL = cases()
QUICK = [case for case in ALL if not case.is_large]
MOST_GROWTH = 300 * 2**20


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def server():
    with FaultyServer() as running:
        yield running


def test_the_file_that_all_are_made_from_is_a_checkpoint(tmp_path):
    (tmp_path / "good.pt").write_bytes(archive().bytes())
    assert list(read_header(tmp_path / "good.pt").tensors) == [NAME]
    assert read_checkpoint(tmp_path / "good.pt").tensors[NAME].tolist() == [[1, 2], [3, 4]]


def test_there_are_many():
    assert len({case.name for case in ALL}) == len(ALL) >= 90


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_it_is_refused_and_not_run(case, tmp_path):
    path = case.write(tmp_path / "model.pt")
    for read in (read_header, read_checkpoint, dpa2.load):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert case.words in caught.value.message
        assert caught.value.hint
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("case", QUICK[::4], ids=lambda case: case.name)
def test_it_is_refused_over_a_network(case, server, tmp_path):
    page = server.serve("/model.pt", case.content)
    remotes = [Remote(page.url, "here")]
    with pytest.raises(CheckpointError) as caught:
        fetch_branch(remotes, None, tmp_path / "model.pt")
    assert case.words in caught.value.message
    with pytest.raises(CheckpointError):
        remote_header(remotes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", QUICK[::12], ids=lambda case: case.name)
@pytest.mark.parametrize(
    "command",
    [
        ["branches", "model.pt"],
        ["show", "model.pt"],
        ["extract", "model.pt", "-o", "out.pt"],
        ["export", "model.pt", "--safetensors", "-o", "out.safetensors"],
    ],
    ids=lambda command: command[0],
)
def test_commands_say_so_in_a_sentence(case, command, tmp_path):
    case.write(tmp_path / "model.pt")
    result = outcome(*command)
    assert result.exit_code not in (0, None)
    assert isinstance(result.exception, SystemExit | CheckpointError)
    assert not (tmp_path / CANARY).exists()
    assert not list(tmp_path.glob("out.*"))


READ_ALL = """
import json, re, sys
from pathlib import Path
from dpa2.formats.checkpoint import read_checkpoint
from schemas.base.errors import CheckpointError


def peak():
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(re.search("VmHWM:[^0-9]+([0-9]+)", Path("/proc/self/status").read_text())[1])


files = sorted(Path(sys.argv[1]).iterdir())
read_checkpoint(sys.argv[2])
before = peak()
refused = 0
for path in files:
    try:
        read_checkpoint(path)
    except CheckpointError:
        refused += 1
grown = peak() - before
json.dump([refused, grown * 1024], sys.stdout)
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    """One process reads all of them on the way to torch; its peak may grow by this much."""
    (tmp_path / "good.pt").write_bytes(archive().bytes())
    (tmp_path / "all").mkdir()
    for number, case in enumerate(ALL):
        case.write(tmp_path / "all" / f"{number}.pt")
    found = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path / "all"), str(tmp_path / "good.pt")],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    refused, grown = json.loads(found.stdout)
    sys.stdout.write(f"largest growth: {grown / 2**20:.0f} MB\n")
    assert refused == len(ALL)
    assert 0 < grown <= MOST_GROWTH
