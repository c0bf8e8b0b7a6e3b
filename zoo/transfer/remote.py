"""The words of a transfer: where a file is, who watches, what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


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


@dataclass(frozen=True, slots=True)
class Download:
    """A file that arrived.

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
