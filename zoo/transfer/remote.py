"""The terms of a transfer: places, progress, results, waits and failures."""

import ipaddress
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from schemas.base.errors import TransferError


class ForbiddenAddressError(TransferError):
    """An address, or one that it redirects to, would go over the network in the clear."""


class UnreachableError(TransferError):
    """No host that has a file can be connected to: there is no network, or not the right one."""


class RefusedError(TransferError):
    """A place does not have the file, has another one, or does not let this user read it."""


class NoRangeError(TransferError):
    """The server sends whole files only."""


class ChangedError(TransferError):
    """The file is another one than at the beginning."""


class WrongContentError(TransferError):
    """A file arrived complete and is not the one that was asked for.

    Args:
        message: What differs.
        found: SHA-256 of what arrived.
        hint: What to do.
    """

    def __init__(self, message: str, *, found: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.found = found


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits and limits of a transfer; all times in seconds.

    Args:
        connect: For a connection to open.
        stall: Without a byte before the connection is given up and opened again.
        attempts: Failures of one source without progress in between before it is given up.
        first_wait: Before the second attempt; each further one waits twice as long.
        longest_wait: Between two attempts.
        longest_retry_after: A server that asks for a longer pause than this is given up.
        poll: Between two looks at a lock that another process holds.
        heartbeat: Between two signs of life of the process that holds a lock.
        silence: Without a sign of life before a lock of another machine is taken over.
        restarts: Times that a transfer begins again because the file changed meanwhile.
    """

    connect: float = 15.0
    stall: float = 30.0
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_retry_after: float = 120.0
    poll: float = 0.2
    heartbeat: float = 5.0
    silence: float = 90.0
    restarts: int = 4

    def wait(self, failures: int) -> float:
        """Return the pause after so many failures in a row.

        It doubles each time and has a random share, so that many processes that lost the same
        server do not come back together.
        """
        longest = min(self.first_wait * 2.0 ** max(0, failures - 1), self.longest_wait)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret


PATIENT = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Remote:
    """A place on the network where a file can be had.

    Args:
        url: Its address; https, or http on this machine.
        label: What messages call it, such as the host's name.
        headers: Sent to this host only, such as a token; never shown, never sent after a redirect
            to another host.
        insecure: Plain http to another machine is allowed (`zoo serve` on a local network).
    """

    url: str
    label: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False


class Progress(Protocol):
    """Who watches a transfer; called from the thread that transfers."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """A file of `total` bytes begins, of which `done` are here already."""

    def advance(self, amount: int) -> None:
        """That many more bytes have arrived."""

    def say(self, message: str) -> None:
        """Something a person should know: a retry, another mirror."""

    def finish(self) -> None:
        """The file is complete, or given up."""


class _Nobody:
    """Nobody watches."""

    def start(self, *_: object, **__: object) -> None:
        """Say nothing."""

    advance = say = finish = start


class Counted:
    """A `Progress` that counts what arrives, and passes everything on.

    Args:
        watcher: Told everything as well; None: nobody watches.
    """

    def __init__(self, watcher: Progress | None = None) -> None:
        watcher = watcher or _Nobody()
        self.start, self.say, self.finish = watcher.start, watcher.say, watcher.finish
        self._advance = watcher.advance
        self.received = 0

    def advance(self, amount: int) -> None:
        """More bytes have arrived."""
        self.received += amount
        self._advance(amount)


@dataclass(frozen=True, slots=True)
class Download:
    """A file that arrived, or was here already.

    Args:
        path: Where it is.
        sha256: Of its content, computed here.
        size: Bytes.
        received: Bytes that came over the network in this call: 0 if it was here already.
        source: Label of the place from which its last byte came.
        url: Address of that place; None for a file that was on this machine.
        etag: What that place said to tell versions apart; None where it said nothing.
    """

    path: Path
    sha256: str
    size: int
    received: int
    source: str
    url: str | None = field(default=None, repr=False)
    etag: str | None = None

    @classmethod
    def here(cls, path: Path, sha256: str, source: str = "this machine") -> "Download":
        """Return a file for which nothing had to be fetched."""
        return cls(path, sha256, path.stat().st_size, received=0, source=source)


def is_loopback(host: str | None) -> bool:
    """Return whether a host's name or address is this machine's own, where http is safe."""
    if host is not None and host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def shown(url: str) -> str:
    """Return an address fit for messages: without user, password and query, which hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
