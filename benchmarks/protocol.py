"""How the timing program talks to its workers: one line a command, one JSON line an answer."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from workload import Work

Step = Callable[[], dict[str, Any]]
"""One repetition; returns what is compared between workers."""


def serve(
    work: Work,
    prepare: Callable[[], Step],
    count: Callable[[Step], dict[str, Any]] | None = None,
) -> None:
    """Worker side: prepare, warm up twice, then time one repetition for every line `run` on stdin.

    A repetition that is not timed goes before each: while the other workers had their turns, the
    operating system may have taken pages and caches away from this one, which no run pays for that
    has the machine to itself. What runs `once` is spared both. At the end, when memory has been
    read, `count` says what else there is to know of a repetition.

    Standard output is the channel, so whatever else the worker's libraries print goes to stderr.
    """
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    started = time.perf_counter()
    repeat = prepare()
    before = peak_mb()
    facts: dict[str, Any] = {}
    for _ in range(0 if work.once else 2):
        facts = repeat()
    answer(channel, setup_s=time.perf_counter() - started, before_mb=before, **facts)
    for line in sys.stdin:
        if line.strip() != "run":
            break
        if not work.once:
            repeat()
        started = time.perf_counter()
        repeat()
        answer(channel, seconds=time.perf_counter() - started)
    peak = peak_mb()
    answer(channel, peak_mb=peak, **(count(repeat) if count else {}))


def answer(channel: Any, **facts: Any) -> None:
    """Write one JSON line."""
    channel.write(json.dumps(facts) + "\n")


def peak_mb() -> float:
    """Return the largest memory so far: of the GPU, where one is used, else of the process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated()) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # What the kernel reports of children begins with the size of their parent.
        lines = status.read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synchronize(work: Work) -> None:
    """Wait for a GPU, which works while Python goes on."""
    if work.device == "cuda":
        sys.modules["torch"].cuda.synchronize()


class Worker:
    """Parent side of one worker process, started at once."""

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
        self.facts = self.read()

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

    def stop(self) -> dict[str, Any]:
        """End the worker; returns all it said about itself, its peak memory included."""
        self.send("stop")
        self.facts |= self.read()
        self.process.wait()
        return self.facts

    def send(self, command: str) -> None:
        """Write one command line."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # the answer that does not come says why
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
