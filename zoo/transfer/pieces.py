"""A file on the network that is read in pieces."""

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

import httpx2

from schemas.base.errors import WriteError
from zoo.transfer.client import Refusal, Reply, Setback, new_client, requested
from zoo.transfer.remote import (
    PATIENT,
    ChangedError,
    Counted,
    NoRangeError,
    Progress,
    Remote,
    RetryPolicy,
    shown,
)
from zoo.transfer.sources import Source, Sources

_FIRST = 4 * 1024
_LEAST = 512
_GAP = 8 * 1024
_LONGEST = 16 * 2**20
_CONNECTIONS = 4
_PIECE = 256 * 1024

Span = tuple[int, int]
"""First byte, and the one after the last."""


class RangeFile:
    """A `schemas.checkpoint.archive.RandomAccess` over HTTP, and a context manager.

    What arrived is kept in a nameless file with holes, so that no byte is fetched twice. Every
    reply is held to the version that came first. Where a hub redirects to its storage, the storage
    is asked directly from then on; its address is good for a while only: when it fails, the hub is
    asked for another one, and when it is refused, the hub is asked each time.

    Args:
        remotes: Where the file can be had; the same content everywhere. A place that fails is left
            for the next.
        folder: Where the nameless file is; None: the system's folder for temporary files.
        progress: Who hears of retries.
        policy: Waits and limits.

    Raises:
        NoRangeError: The server sends whole files only.
        TransferError: No place has it; says what each of them answered.

    Attributes:
        name: Its address, fit for messages.
        size: Bytes of the file.
        received: Bytes of bodies that came over the network.
    """

    def __init__(
        self,
        remotes: Sequence[Remote],
        *,
        folder: Path | None = None,
        progress: Progress | None = None,
        policy: RetryPolicy = PATIENT,
    ) -> None:
        self.name = shown(remotes[0].url)
        self.size = _FIRST
        self.received = 0
        self._remotes = list(remotes)
        self._policy = policy
        self._progress = progress or Counted()
        self._known_size: int | None = None
        self._versions: dict[str, str | None] = {}
        self._direct: dict[str, Remote] = {}
        self._here: list[Span] = []
        self._lock = threading.Lock()
        try:
            self._copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            where = folder or tempfile.gettempdir()
            raise WriteError(f"{where} cannot be written: {error}") from error
        self._client = new_client(policy.stall, policy.connect)
        try:
            self.fetch([(0, _FIRST)])
        except BaseException:
            self.close()
            raise
        self.size = self._known_size or 0

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on: fewer than asked for only at the end.

        Raises:
            NoRangeError: The server sends whole files only.
            ChangedError: The file changed meanwhile.
            TransferError: They cannot be had.
        """
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        if missing(self._here, offset, end):
            self.fetch([(offset, max(end, offset + _LEAST))])
        return os.pread(self._copy.fileno(), end - offset, offset)

    def fetch(self, spans: Iterable[Span], progress: Progress | None = None) -> None:
        """Fetch parts before they are read, those near each other together, several at a time.

        Raises:
            As `read_at`.
        """
        wanted = self.requests_for(spans)
        if progress is not None:
            progress.start(self.name, sum(end - start for start, end in wanted), 0)
        if len(wanted) < 2:
            for span in wanted:
                self._fetch(span, progress)
            return
        with ThreadPoolExecutor(min(_CONNECTIONS, len(wanted))) as pool:
            for _ in pool.map(lambda span: self._fetch(span, progress), wanted):
                pass

    def requests_for(self, spans: Iterable[Span]) -> list[Span]:
        """Return which requests would fetch parts: what is missing of them, those near joined."""
        within = ((start, min(end, self.size)) for start, end in spans)
        parts = [part for start, end in within for part in missing(self._here, start, end)]
        return [
            (start, min(start + _LONGEST, last))
            for first, last in coalesced(parts, _GAP)
            for start in range(first, last, _LONGEST)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and forget what arrived."""
        self._client.close()
        self._copy.close()

    def _fetch(self, span: Span, progress: Progress | None) -> None:
        start, end = begin, _ = span

        def ask(source: Source) -> bool:
            nonlocal start
            for piece in self._pieces(source.remote, start, end):
                self._keep(start, piece, progress)
                start += len(piece)
            if start < min(end, self._known_size or end):
                raise Setback("the connection broke off")
            return True

        sources = Sources(self.name, self._remotes, self._policy, self._progress)
        found = sources.ask(ask, lambda: start - begin)
        if found.order:  # the others failed, and are asked last from now on
            with self._lock:
                failed = self._remotes[: found.order]
                self._remotes = [one for one in self._remotes if one not in failed] + failed

    def _pieces(self, remote: Remote, start: int, end: int) -> Iterator[bytes]:
        """Yield the body of one reply, from where the last redirect led if that is still good."""
        place = self._direct.get(remote.url, remote)
        try:
            yield from self._reply(remote, place, start, end)
        except Refusal:
            if place is remote:
                raise
            self._direct[remote.url] = remote
            yield from self._reply(remote, remote, start, end)
        except Setback:
            self._direct.pop(remote.url, None)
            raise

    def _reply(self, remote: Remote, place: Remote, start: int, end: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        version = self._versions.get(remote.url)
        if version:
            headers["If-Range"] = version
        left = end - start
        with requested(self._client, place, headers, stall=self._policy.stall) as reply:
            self._check(remote, reply, start)
            self._remember(remote, reply)
            for piece in reply.response.iter_raw(_PIECE):
                with self._lock:
                    self.received += len(piece)
                yield piece[:left]
                left -= len(piece[:left])

    def _check(self, remote: Remote, reply: Reply, start: int) -> None:
        """Refuse a reply that is not the part that was asked for."""
        address = shown(remote.url)
        if reply.status == 200 and remote.url not in self._versions:
            raise NoRangeError(
                f"{address} cannot be read in pieces: the server sends whole files only",
                hint="pull the whole file instead",
            )
        changed = reply.status != 206
        if changed and self._known_size is None:
            raise Refusal(f"it answers {reply.status}")
        if not changed and (reply.start != start or reply.total is None):
            raise Refusal("it sends another part of the file than was asked for")
        with self._lock:
            self._known_size = self._known_size or reply.total
            known = self._versions.get(remote.url)
            self._versions[remote.url] = known or reply.version
        changed = changed or self._known_size != reply.total
        if changed or (known and reply.version and known != reply.version):
            raise ChangedError(
                f"{address} changed while it was read", hint="try again: the new file is read then"
            )

    def _remember(self, remote: Remote, reply: Reply) -> None:
        """Note where a redirect led; what is meant for the first host goes to no other one."""
        url = reply.response.url
        if str(url) != remote.url:
            headers = remote.headers if url.origin == httpx2.URL(remote.url).origin else {}
            self._direct.setdefault(remote.url, replace(remote, url=str(url), headers=headers))

    def _keep(self, position: int, piece: bytes, progress: Progress | None) -> None:
        try:
            os.pwrite(self._copy.fileno(), piece, position)
        except OSError as error:
            raise WriteError(f"what arrived cannot be kept: {error.strerror or error}") from error
        with self._lock:
            self._here = coalesced([*self._here, (position, position + len(piece))], 0)
        if progress is not None:
            progress.advance(len(piece))


def missing(here: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return the parts of a span that no other span covers."""
    parts = [(start, end)] if start < end else []
    for first, last in here:
        if first < end and start < last:
            cut = [pair for a, b in parts for pair in ((a, min(b, first)), (max(a, last), b))]
            parts = [(a, b) for a, b in cut if a < b]
    return parts


def coalesced(spans: Iterable[Span], gap: int) -> list[Span]:
    """Return spans in order, those with no more than `gap` bytes between them joined."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + gap:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
