"""The sources of a file: the quickest first, and whom to ask next after a failure."""

import errno
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx2

from schemas.base.errors import TransferError
from zoo.transfer.client import Refusal, Setback, causes, check_url, new_client, open_reply
from zoo.transfer.remote import Progress, Remote, RetryPolicy, UnreachableError, shown

CLEARLY_FASTER = 0.5
"""A mirror overtakes those before it only if it answers in less than this share of their time."""
NOTICEABLE = 0.05
"""And is faster by this many seconds: less than that is noise."""
_TIMEOUT = 3.0
# A name server that does not answer keeps a thread busy beyond any timeout of the client.
_GRACE = 1.0
# Between the first question and the second.
_PAUSE = 0.5
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
# Bytes after which earlier failures of a source are forgotten.
_PROGRESS = 64 << 10
_WORTH_SAYING = 0.1


@dataclass
class Source:
    """A place and its record in one transfer.

    Args:
        remote: Address and label.
        order: Its rank in the caller's list.

    Attributes:
        key: Fingerprint of its address, which may hold secrets in its query.
        failures: In a row, without much progress in between.
        ready: Monotonic time before which it is not asked.
        wrong: Complete files with another hash that came from it alone.
        reason: Of its last failure, in words.
        hint: What the user can do about it.
        is_out: It is not asked any more.
    """

    remote: Remote
    order: int
    key: str = field(init=False)
    failures: int = 0
    ready: float = 0.0
    wrong: int = 0
    reason: str = ""
    hint: str | None = None
    is_out: bool = False

    def __post_init__(self) -> None:
        self.key = hashlib.sha256(self.remote.url.encode()).hexdigest()[:16]

    def set_back(self, setback: Setback, policy: RetryPolicy) -> None:
        """Note a failure that may pass."""
        self.failures += 1
        self.reason = setback.reason
        self.is_out = self.failures >= policy.attempts
        pause = policy.wait(self.failures)
        if setback.pause is not None:
            if setback.pause > policy.longest_retry_after:
                self.reason += f" and asks to come back in {setback.pause:.0f} s"
                self.is_out = True
            pause = max(pause, setback.pause)
        self.ready = time.monotonic() + pause


class Sources:
    """The places of one file, asked until one delivers.

    Args:
        name: Of the file.
        remotes: In the order in which they are asked.
        policy: Waits and limits.
        progress: Who hears of failures.
    """

    def __init__(
        self, name: str, remotes: Sequence[Remote], policy: RetryPolicy, progress: Progress
    ) -> None:
        if not remotes:
            raise ValueError("a file needs at least one source")
        self.all = [Source(remote, order) for order, remote in enumerate(remotes)]
        self._name, self._policy, self._progress = name, policy, progress

    def next(self) -> Source | None:
        """Return whom to ask: who may be asked first, then who failed least, then by order."""
        now = time.monotonic()
        living = [source for source in self.all if not source.is_out]
        return min(
            living, key=lambda s: (max(s.ready, now), s.wrong, s.failures, s.order), default=None
        )

    def ask(
        self,
        ask: Callable[[Source], bool],
        arrived: Callable[[], int],
        choose: Callable[[], Source | None] | None = None,
    ) -> Source:
        """Ask one source after the other until `ask` returns True; return the one that it was.

        A source that fails is asked again after a growing pause; meanwhile the next one is.

        Args:
            ask: Whether all that was wanted is here; raises Setback or Refusal.
            arrived: How many bytes came so far, to tell progress.
            choose: Whom to ask next; None: `next`.

        Raises:
            TransferError: When no source delivers; says what each of them did.
        """
        while (source := (choose or self.next)()) is not None:
            pause = source.ready - time.monotonic()
            if pause > 0:
                if pause >= _WORTH_SAYING:
                    self._progress.say(f"{source.remote.label}: trying again in {pause:.1f} s")
                time.sleep(pause)
            before = arrived()
            try:
                if ask(source):
                    return source
            except Setback as setback:
                if arrived() - before >= _PROGRESS:
                    source.failures = 0
                source.set_back(setback, self._policy)
                self._progress.say(f"{source.remote.label}: {source.reason}")
            except Refusal as refusal:
                source.reason, source.hint, source.is_out = refusal.reason, refusal.hint, True
                self._progress.say(f"{source.remote.label}: {refusal.reason}")
        raise self._all_failed()

    def _all_failed(self) -> TransferError:
        if len(self.all) == 1:
            (source,) = self.all
            remote = source.remote
            where = "" if remote.label in remote.url else f" ({remote.label})"
            message = f"cannot be fetched from {shown(remote.url)}{where}: {source.reason}"
        else:
            parts = "; ".join(f"{source.remote.label}: {source.reason}" for source in self.all)
            message = f"cannot be fetched from any of its {len(self.all)} sources: {parts}"
        hints = dict.fromkeys(source.hint for source in self.all if source.hint)
        return TransferError(
            f"{self._name} {message}",
            hint="; ".join(hints) or "look at the connection, or try again later",
        )


@dataclass
class _Answer:
    """What a remote did: seconds until it answered, or why it cannot be reached, or neither."""

    seconds: float | None = None
    unreachable: str | None = "it does not answer"


def by_latency(remotes: Sequence[Remote], *, timeout: float = _TIMEOUT) -> list[Remote]:
    """Return the remotes, the quickest to answer first; the given order unless there is a reason.

    All are asked at the same time for one byte of the file, redirects included; of a single one
    only the host is asked whether it is there. A later remote overtakes an earlier one only if it
    is clearly faster (`CLEARLY_FASTER`, `NOTICEABLE`). Those that do not answer in time, or with an
    error, come last: they may have recovered by the time they are needed.

    Where no host of all can even be connected to there is no network, and trying again for long
    would not help: they are asked once more, with twice the time, since a name server may miss a
    question and the way to a host may be slow, and no more.

    Args:
        remotes: In the order of preference.
        timeout: Seconds for an answer.

    Raises:
        UnreachableError: When no remote can be connected to; says why each cannot.
    """
    begin = time.monotonic()
    answers = _asked(remotes, timeout)
    if answers and all(answer.unreachable for answer in answers):
        time.sleep(max(0.0, begin + _PAUSE - time.monotonic()))
        answers = _asked(remotes, 2.0 * timeout)
        if all(answer.unreachable for answer in answers):
            raise _unreachable(remotes, answers)
    return [remotes[index] for index in order([answer.seconds for answer in answers])]


def order(times: Sequence[float | None]) -> list[int]:
    """Return the indices of latencies (seconds; None: no answer) in the order to try them."""
    ranked: list[int] = []
    for index, latency in enumerate(times):
        place = len(ranked)
        while place and _overtakes(latency, times[ranked[place - 1]]):
            place -= 1
        ranked.insert(place, index)
    return ranked


def _overtakes(later: float | None, earlier: float | None) -> bool:
    if later is None or earlier is None:
        return later is not None
    return later < earlier * CLEARLY_FASTER and earlier - later > NOTICEABLE


def _asked(remotes: Sequence[Remote], timeout: float) -> list[_Answer]:
    """Ask all at the same time; whoever has not answered in the end is not waited for."""
    answers = [_Answer() for _ in remotes]
    ask = _latency if len(remotes) > 1 else _is_there

    def run(remote: Remote, answer: _Answer) -> None:
        try:
            ask(remote, answer, timeout)
        except httpx2.HTTPError as error:
            if answer.unreachable is not None:
                answer.unreachable = _why_unreachable(error)
        except Exception:  # noqa: BLE001 - the transfer meets it again, and says what it is
            answer.unreachable = None

    end = time.monotonic() + timeout + _GRACE
    threads = [
        threading.Thread(target=run, args=pair, daemon=True)
        for pair in zip(remotes, answers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return answers


def _latency(remote: Remote, answer: _Answer, timeout: float) -> None:
    def reached(_: httpx2.Response) -> None:
        answer.unreachable = None

    begin = time.monotonic()
    with new_client(timeout) as client:
        client.event_hooks = {"response": [reached]}
        with open_reply(client, "GET", remote, {"Range": "bytes=0-0"}) as reply:
            if reply.status_code < 400:
                answer.seconds = time.monotonic() - begin


def _is_there(remote: Remote, answer: _Answer, timeout: float) -> None:
    """Ask the host alone, not for the file: an address may be good for one use only."""
    check_url(remote)
    with new_client(timeout) as client:
        client.head(httpx2.URL(remote.url).join("/"))
    answer.unreachable = None


def _why_unreachable(error: httpx2.HTTPError) -> str | None:
    """Return why there is no way to a host; None for what may pass, and for what a host said."""
    if isinstance(error, httpx2.ConnectTimeout):
        return "it does not answer"
    for cause in causes(error):
        if isinstance(cause, socket.gaierror):
            return "its name is not found"
        if isinstance(cause, ConnectionRefusedError):
            return "it refuses connections"
        if isinstance(cause, OSError) and cause.errno in _NO_WAY:
            return "no network leads to it"
    return None


def _unreachable(remotes: Sequence[Remote], answers: Sequence[_Answer]) -> UnreachableError:
    name = PurePosixPath(unquote(urlsplit(remotes[0].url).path)).name
    reasons = "; ".join(
        f"{remote.label}: {answer.unreachable}"
        for remote, answer in zip(remotes, answers, strict=True)
    )
    return UnreachableError(
        f"{name} cannot be fetched, since no host that has it can be reached: {reasons}",
        hint="there may be no network here, or only one through a proxy (HTTPS_PROXY); `zoo "
        "bundle` and `zoo serve` carry models to machines without a network",
    )
