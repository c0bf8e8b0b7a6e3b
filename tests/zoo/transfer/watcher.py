"""Parts of tests of transfers: a short policy, bytes, and a `Progress` that remembers.

python -m tests.zoo.transfer.watcher URL TARGET SHA256|- [wait]

fetches one file and prints what came of it as JSON, for tests of several processes. With `wait` it
says when it is ready, and begins when it is sent a line.
"""

import hashlib
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

from tests.zoo.transfer.faulty_server import Fault
from zoo.transfer.download import download
from zoo.transfer.remote import Remote, RetryPolicy

SHORT = RetryPolicy(
    connect=5.0,
    stall=1.0,
    first_wait=0.005,
    longest_wait=0.02,
    longest_retry_after=2.0,
    poll=0.02,
    heartbeat=0.05,
    silence=20.0,
)


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes that look like weights: the same for the same seed."""
    return random.Random(seed).randbytes(size)


DATA, NEWER = content(400_000), content(400_000, seed=1)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2
BREAK, GONE = Fault(truncate_after=HALF), Fault(status=404)


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, int | None, int]] = []
        self.said: list[str] = []
        self.arrived = self.finished = 0

    def start(self, name: str, total: int | None, done: int) -> None:
        self.starts.append((name, total, done))

    def advance(self, amount: int) -> None:
        self.arrived += amount

    def say(self, message: str) -> None:
        self.said.append(message)

    def finish(self) -> None:
        self.finished += 1


if __name__ == "__main__":
    url, target, sha256, *wait = sys.argv[1:]
    watcher = Watcher()
    if wait:
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
    found = download(
        [Remote(url, "server")],
        Path(target),
        sha256=None if sha256 == "-" else sha256,
        size=None,
        progress=watcher,
        policy=replace(SHORT, stall=20.0),
    )
    json.dump(
        {"sha256": found.sha256, "received": found.received, "said": watcher.said}, sys.stdout
    )
