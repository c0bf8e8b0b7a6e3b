"""Which of several mirrors answers first."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx2

from schemas.errors import TransferError
from zoo.transfer.client import new_client, open_reply
from zoo.transfer.remote import Remote

CLEARLY_FASTER = 0.5
"""A mirror overtakes those before it only if it answers in less than this share of their time."""
NOTICEABLE = 0.05
"""And is faster by this many seconds: less than that is noise."""
_TIMEOUT = 3.0


def by_latency(remotes: Sequence[Remote], *, timeout: float = _TIMEOUT) -> list[Remote]:
    """Return the remotes, the quickest to answer first; the given order unless there is a reason.

    All are asked at the same time for one byte of the file, redirects included. A later remote
    overtakes an earlier one only if it is clearly faster (`CLEARLY_FASTER`, `NOTICEABLE`). Those
    that do not answer in time, or with an error, come last: they may have recovered by the time
    they are needed.

    Args:
        remotes: In the order of preference.
        timeout: Seconds for an answer.
    """
    if len(remotes) < 2:
        return list(remotes)
    with (
        new_client(timeout=timeout) as client,
        ThreadPoolExecutor(max_workers=len(remotes)) as pool,
    ):
        times = list(pool.map(lambda remote: _latency(client, remote), remotes))
    return [remotes[index] for index in order(times)]


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
    if later is None:
        return False
    if earlier is None:
        return True
    return later < earlier * CLEARLY_FASTER and earlier - later > NOTICEABLE


def _latency(client: httpx2.Client, remote: Remote) -> float | None:
    begin = time.monotonic()
    try:
        with open_reply(client, "GET", remote, {"Range": "bytes=0-0"}) as reply:
            if reply.status_code >= 400:
                return None
    except (httpx2.HTTPError, httpx2.StreamError, TransferError):
        return None
    return time.monotonic() - begin
