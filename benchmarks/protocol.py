"""How the timing program talks to its workers: one line a command, one JSON line an answer."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def serve(prepare: Callable[[], Callable[[], dict[str, Any]]], warmup: int = 2) -> None:
    """Worker side: prepare, warm up, then time one repetition for every line `run` on stdin.

    A repetition that is not timed goes before each: while the other workers had their turns, the
    operating system may have taken pages and caches away from this one, which no run pays for that
    has the machine to itself.

    Standard output is the channel, so whatever else the worker's libraries print goes to stderr.
    """
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    started = time.perf_counter()
    repeat = prepare()
    facts: dict[str, Any] = {}
    for _ in range(warmup):
        facts = repeat()
    answer(channel, setup_s=time.perf_counter() - started, **facts)
    for line in sys.stdin:
        if line.strip() != "run":
            break
        repeat()
        started = time.perf_counter()
        repeat()
        answer(channel, seconds=time.perf_counter() - started)
    answer(channel, peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def answer(channel: Any, **facts: Any) -> None:
    """Write one JSON line."""
    channel.write(json.dumps(facts) + "\n")


class Worker:
    """Parent side of one worker process."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(env),
                cwd=log.parent,
                text=True,
            )

    def read(self) -> dict[str, Any]:
        """Wait for the next answer; raises RuntimeError if the worker died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text().splitlines()[-8:])
            raise RuntimeError(f"worker {self.name} failed (whole output in {self.log}):\n{tail}")
        facts: dict[str, Any] = json.loads(line)
        return facts

    def run(self) -> float:
        """Have one repetition done; returns its seconds."""
        self.send("run")
        return float(self.read()["seconds"])

    def stop(self) -> float:
        """End the worker; returns its peak resident memory in MB."""
        self.send("stop")
        peak = float(self.read()["peak_mb"])
        self.process.wait()
        return peak

    def send(self, command: str) -> None:
        """Write one command line."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
