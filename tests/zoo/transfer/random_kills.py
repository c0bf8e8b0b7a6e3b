"""Downloads killed with signal 9 at random points: another process goes on where they stopped.

python -m tests.zoo.transfer.random_kills --count 20
"""

# ruff: noqa: T201 - a program with a report
import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tests.zoo.transfer.faulty_server import FaultyServer
from tests.zoo.transfer.watcher import SHORT, content
from zoo.transfer.download import download
from zoo.transfer.remote import Remote

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Resumed:
    """What a second process did after the first was killed.

    Args:
        right: The file has the right bytes, and nothing lies beside it.
        killed_at: Bytes that the first one had written.
        again: Bytes that the server sent more than once, those on the way when it was killed
            included.
    """

    right: bool
    killed_at: int
    again: int


def kill_and_resume(seed: int, folder: Path, size: int, pace: float, *, known: bool) -> Resumed:
    """Kill a download when a random share of the file is there, and fetch the rest.

    Args:
        seed: Of the content and the share.
        folder: Empty.
        size: Bytes of the file.
        pace: Bytes a second of the server, so that there is time to kill.
        known: Whether the hash is given; without one the ETag must do.
    """
    data = content(size, seed)
    wanted = random.Random(seed).uniform(0.02, 0.95) * size
    sha256 = hashlib.sha256(data).hexdigest()
    target = folder / "model.pt"
    with FaultyServer() as server:
        page = server.serve("/model.pt", data, pace=pace)
        program = [sys.executable, "-m", "tests.zoo.transfer.fetch_one", page.url, str(target)]
        process = subprocess.Popen([*program, sha256 if known else "-"])
        while _here(folder) < wanted:
            if process.poll() is not None:
                raise RuntimeError("the download ended before it could be killed")
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_at = _here(folder)
        page.pace = None
        download(
            [Remote(page.url, "server")],
            target,
            sha256=sha256 if known else None,
            size=None,
            policy=replace(SHORT, stall=20.0),
        )
        right = target.read_bytes() == data
        right = right and [path.name for path in folder.iterdir()] == ["model.pt"]
        return Resumed(right, killed_at, server.sent("/model.pt") - size)


def _here(folder: Path) -> int:
    return max((path.stat().st_size for path in folder.glob(".*.part")), default=0)


def main() -> int:
    """Kill, resume, print, and fail if a file is wrong or more than 1 MiB came twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--size", type=int, default=48 * MEBIBYTE)
    parser.add_argument("--pace", type=float, default=60e6)
    chosen = parser.parse_args()
    results = []
    for seed in range(chosen.count):
        with tempfile.TemporaryDirectory() as folder:
            results.append(
                kill_and_resume(seed, Path(folder), chosen.size, chosen.pace, known=seed % 2 == 0)
            )
            print(results[-1], flush=True)
    worst = max(result.again for result in results)
    right = sum(result.right for result in results)
    print(f"{len(results)} killed, {right} resumed to the right file; at most {worst} bytes again")
    return 0 if right == len(results) and worst <= MEBIBYTE else 1


if __name__ == "__main__":
    sys.exit(main())
