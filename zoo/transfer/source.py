"""What a transfer knows of each place it can ask, and whom it asks next."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.errors import TransferError
from zoo.transfer.client import shown
from zoo.transfer.patience import Patience
from zoo.transfer.remote import Remote
from zoo.transfer.reply import Refusal, Setback

_PROGRESS = 64 << 10


@dataclass
class Source:
    """A place and its record in this transfer.

    Args:
        remote: Address and label.
        order: Its rank in the caller's list.
        failures: In a row, without much progress in between.
        ready: Monotonic time before which it is not asked.
        wrong: Complete files with another hash that came from it alone.
        reason: Of its last failure, in words.
        hint: What the user can do about it.
        is_out: It is not asked any more.
    """

    remote: Remote
    order: int
    failures: int = 0
    ready: float = 0.0
    wrong: int = 0
    reason: str = ""
    hint: str | None = None
    is_out: bool = False
    key: str = field(init=False)

    def __post_init__(self) -> None:
        """Make the fingerprint of its address: a journal must not hold the secrets of a query."""
        self.key = hashlib.sha256(self.remote.url.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.remote.label

    def set_back(self, setback: Setback, progress: int, patience: Patience) -> None:
        """Note a failure that may pass, after `progress` bytes."""
        self.failures = 1 if progress >= _PROGRESS else self.failures + 1
        self.reason = setback.reason
        pause = patience.wait(self.failures)
        if setback.pause is not None:
            if setback.pause > patience.longest_retry_after:
                self.reason += f" and asks to come back in {setback.pause:.0f} s"
                self.is_out = True
            pause = max(pause, setback.pause)
        self.ready = time.monotonic() + pause
        if self.failures >= patience.attempts:
            self.is_out = True

    def refuse(self, refusal: Refusal) -> None:
        """Note a failure that stays."""
        self.reason, self.hint, self.is_out = refusal.reason, refusal.hint, True


def next_source(sources: Sequence[Source]) -> Source | None:
    """Return whom to ask next: who may be asked first, among those the first in order."""
    now = time.monotonic()
    living = [source for source in sources if not source.is_out]
    return min(living, key=lambda s: (max(s.ready, now), s.wrong, s.order), default=None)


def all_failed(name: str, sources: Sequence[Source], here: int) -> TransferError:
    """Return the error that says what every source did.

    Args:
        name: Of the file.
        sources: All of them.
        here: Bytes that are kept for the next attempt.
    """
    if len(sources) == 1:
        (source,) = sources
        where = "" if source.label in source.remote.url else f" ({source.label})"
        message = (
            f"{name} cannot be fetched from {shown(source.remote.url)}{where}: {source.reason}"
        )
    else:
        parts = "; ".join(f"{source.label}: {source.reason}" for source in sources)
        message = f"{name} cannot be fetched from any of its {len(sources)} sources: {parts}"
    hints = [source.hint for source in sources if source.hint]
    if here:
        hints.append(f"{here / 1e6:.1f} MB are kept: the same command goes on from there")
    return TransferError(
        message,
        hint="; ".join(dict.fromkeys(hints)) or "look at the connection, or try again later",
    )
