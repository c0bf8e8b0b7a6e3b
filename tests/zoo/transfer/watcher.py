"""What tests use again and again: short patience, and a `Progress` that remembers."""

import random
from dataclasses import dataclass, field

from zoo.transfer.remote import RetryPolicy

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


@dataclass
class Watcher:
    """Keeps what it is told."""

    starts: list[tuple[str, int | None, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    arrived: int = 0
    finished: int = 0

    def start(self, name: str, total: int | None, done: int) -> None:
        self.starts.append((name, total, done))

    def advance(self, amount: int) -> None:
        self.arrived += amount

    def say(self, message: str) -> None:
        self.said.append(message)

    def finish(self) -> None:
        self.finished += 1
