"""A file on the network that is read in pieces."""

import os
import re
import tempfile
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2

from schemas.base.errors import TransferError, WriteError
from zoo.transfer.client import new_client, open_reply, shown
from zoo.transfer.remote import PATIENT, Progress, Remote, RetryPolicy, Silent


class NoRangeError(TransferError):
    """The server sends whole files only."""


class ChangedError(TransferError):
    """The file is another one than at the beginning."""


Span = tuple[int, int]
"""First byte, and the one after the last."""


class Spans:
    """A set of bytes, kept as sorted spans that do not touch."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, start: int, end: int) -> None:
        """Put bytes into the set."""
        if start >= end:
            return
        kept, merged = [], (start, end)
        for span in self._spans:
            if span[1] < merged[0] or span[0] > merged[1]:
                kept.append(span)
            else:
                merged = min(span[0], merged[0]), max(span[1], merged[1])
        kept.insert(bisect_left(kept, merged), merged)
        self._spans = kept

    def missing(self, start: int, end: int) -> list[Span]:
        """Return the parts of a span that are not in the set."""
        found = []
        for first, last in self._spans:
            if last <= start:
                continue
            if first >= end:
                break
            if first > start:
                found.append((start, first))
            start = max(start, last)
        if start < end:
            found.append((start, end))
        return found


def coalesced(spans: Iterable[Span], gap: int, longest: int) -> list[Span]:
    """Join spans that lie near each other, and cut those that are too long for one request.

    Args:
        spans: What is wanted, in any order.
        gap: Bytes between two spans that are worth less than another request.
        longest: Bytes of one request.
    """
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + gap:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return [
        (start, min(start + longest, last))
        for first, last in joined
        for start in range(first, last, longest)
    ]


_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_EXPIRED = frozenset({401, 403, 404, 410})
# An address that serves one request only is not worth asking twice each time.
_MOST_REFUSALS = 3
_PIECE = 256 * 1024
Write = Callable[[int, bytes], None]


class _PassingError(Exception):
    """A failure that may be gone next time; the text says what it was."""


class _ExpiredError(Exception):
    """An address to which a redirect led is not good any more."""


class PartialRequests:
    """Fetches parts of one file; every reply is held to the version that came first.

    Where a hub redirects to its storage, the storage is asked directly from then on. Its address
    is good for a while only: when it is refused, or fails, the hub is asked for another one.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        patience: Waits and limits.
        progress: Who hears of retries.

    Attributes:
        size: Bytes of the file; None before the first reply.
        received: Bytes of bodies that came over the network.
        num_requests: How many replies were asked for, without redirects.
    """

    def __init__(
        self, remotes: Sequence[Remote], patience: RetryPolicy, progress: Progress
    ) -> None:
        if not remotes:
            raise ValueError("a file needs at least one source")
        self.size: int | None = None
        self.received = 0
        self.num_requests = 0
        self._remotes = list(remotes)
        self._patience = patience
        self._progress = progress
        self._versions: dict[str, str] = {}
        self._direct: dict[str, Remote] = {}
        self._refusals: Counter[str] = Counter()
        self._client = new_client()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def fetch(self, span: Span, write: Write) -> None:
        """Fetch a part; `write` gets each piece and its position as it arrives.

        Raises:
            NoRangeError: The server sends whole files only.
            ChangedError: The file changed since the first part.
            TransferError: No place delivers; says what each of them did.
        """
        start, end = span
        failures = []
        for remote in list(self._remotes):
            failed = 0
            while failed < self._patience.attempts:
                before = start
                try:
                    for piece in self._pieces(remote, start, end):
                        write(start, piece)
                        start += len(piece)
                    if start >= min(end, self.size or end):
                        return
                    what = "the connection broke off"
                except _ExpiredError:
                    continue
                except (httpx2.TransportError, _PassingError) as error:
                    self._direct.pop(remote.url, None)
                    what = str(error) or type(error).__name__
                except (ChangedError, NoRangeError):
                    raise
                except TransferError as error:
                    failures.append(error.message)
                    break
                failed = 1 if start > before else failed + 1
                self._progress.say(f"{remote.label}: {what}; trying again")
                time.sleep(self._patience.wait(failed))
            else:
                failures.append(f"{shown(remote.url)}: {what}")
            if remote in self._remotes[:-1]:
                self._remotes.append(self._remotes.pop(self._remotes.index(remote)))
        raise TransferError(
            "; ".join(failures), hint="check the network and the address, then try again"
        )

    def _pieces(self, remote: Remote, start: int, end: int) -> Iterator[bytes]:
        """Yield the body of one reply, once it is known to be the part that was asked for."""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        version = self._versions.get(remote.url)
        if version:
            headers["If-Range"] = version
        with self._lock:
            self.num_requests += 1
        left = end - start
        place = self._direct.get(remote.url, remote)
        with open_reply(self._client, "GET", place, headers) as reply:
            if place is not remote and reply.status_code in _EXPIRED:
                self._forget(remote, place)
                raise _ExpiredError
            self._check(remote, reply, start)
            self._remember(remote, reply)
            for piece in reply.iter_raw(_PIECE):
                with self._lock:
                    self.received += len(piece)
                yield piece[:left]
                left -= len(piece[:left])

    def _remember(self, remote: Remote, reply: httpx2.Response) -> None:
        """Note where a redirect led; what is meant for the first host goes to no other one."""
        if str(reply.url) == remote.url or self._refusals[remote.url] >= _MOST_REFUSALS:
            return
        is_home = reply.url.origin == httpx2.URL(remote.url).origin
        headers = remote.headers if is_home else {}
        with self._lock:
            self._direct.setdefault(
                remote.url, replace(remote, url=str(reply.url), headers=headers)
            )

    def _forget(self, remote: Remote, place: Remote) -> None:
        """Ask at the first address again; several requests may have met the same refusal."""
        with self._lock:
            if self._direct.get(remote.url) is place:
                del self._direct[remote.url]
                self._refusals[remote.url] += 1

    def _check(self, remote: Remote, reply: httpx2.Response, start: int) -> None:
        """Refuse a reply that is not the part that was asked for."""
        address, status = shown(remote.url), reply.status_code
        if status in _PASSING:
            raise _PassingError(f"it answers {status}")
        if status == 200 and remote.url not in self._versions:
            raise NoRangeError(
                f"{address} cannot be read in pieces: the server sends whole files only",
                hint="pull the whole file instead",
            )
        if status in (200, 412, 416) and self.size is not None:
            raise self._changed(address)
        if status != 206:
            raise TransferError(
                f"{address} answers {status} {reply.reason_phrase}".rstrip(),
                hint="check the address; private files need a token",
            )
        match = _CONTENT_RANGE.fullmatch(reply.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != start:
            raise TransferError(f"{address} sends another part of the file than was asked for")
        version = _version(reply)
        with self._lock:
            if self.size is None:
                self.size = int(match[3])
            known = self._versions.setdefault(remote.url, version)
        if self.size != int(match[3]) or known != version:
            raise self._changed(address)

    def _changed(self, address: str) -> ChangedError:
        return ChangedError(
            f"{address} changed while it was read", hint="try again: the new file is read then"
        )


def _version(reply: httpx2.Response) -> str:
    """Return what If-Range may name; "" where the server says nothing that identifies a version."""
    etag = str(reply.headers.get("ETag", ""))
    is_strong = etag and not etag.startswith("W/")
    return etag if is_strong else str(reply.headers.get("Last-Modified", ""))


_FIRST = 4 * 1024
_LEAST = 512
_GAP = 8 * 1024
_LONGEST = 16 * 2**20
_CONNECTIONS = 4


class RangeFile:
    """A `schemas.checkpoint.random_access.RandomAccess` over HTTP; see `open_remote`.

    What arrived is kept in a nameless file with holes, so that no byte is fetched twice.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        folder: Where the nameless file is; None: the system's folder for temporary files.
        progress: Who hears of retries.
        patience: Waits and limits.
    """

    def __init__(
        self,
        remotes: Sequence[Remote],
        folder: Path | None,
        progress: Progress,
        patience: RetryPolicy,
    ) -> None:
        self.name = shown(remotes[0].url)
        self._requests = PartialRequests(remotes, patience, progress)
        self._here = Spans()
        self._lock = threading.Lock()
        try:
            self._copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            self._requests.close()
            raise WriteError(
                f"{folder or tempfile.gettempdir()} cannot be written: {error}"
            ) from error
        self.size = _FIRST
        try:
            self.fetch([(0, _FIRST)])
        except BaseException:
            self.close()
            raise
        self.size = self._requests.size or 0

    @property
    def received(self) -> int:
        """Bytes that came over the network, without headers."""
        return self._requests.received

    @property
    def num_requests(self) -> int:
        """Replies that were asked for, without redirects."""
        return self._requests.num_requests

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
        if self._here.missing(offset, end):
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

        def fetch(span: Span) -> None:
            self._requests.fetch(
                span, lambda position, piece: self._keep(position, piece, progress)
            )

        if len(wanted) < 2:
            for span in wanted:
                fetch(span)
            return
        with ThreadPoolExecutor(min(_CONNECTIONS, len(wanted))) as pool:
            for _ in pool.map(fetch, wanted):
                pass

    def requests_for(self, spans: Iterable[Span]) -> list[Span]:
        """Return which requests would fetch parts: what is missing of them, those near joined."""
        return coalesced(
            (
                part
                for start, end in spans
                for part in self._here.missing(start, min(end, self.size))
            ),
            _GAP,
            _LONGEST,
        )

    def _keep(self, position: int, piece: bytes, progress: Progress | None) -> None:
        try:
            os.pwrite(self._copy.fileno(), piece, position)
        except OSError as error:
            raise WriteError(f"what arrived cannot be kept: {error.strerror or error}") from error
        with self._lock:
            self._here.add(position, position + len(piece))
        if progress is not None:
            progress.advance(len(piece))

    def close(self) -> None:
        """Close the connections, and forget what arrived."""
        self._requests.close()
        self._copy.close()


@contextmanager
def open_remote(
    remotes: Sequence[Remote],
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    patience: RetryPolicy = PATIENT,
) -> Iterator[RangeFile]:
    """Open a file on the network that is read in pieces.

    Args:
        remotes: Where the file can be had; the same content everywhere. A place that fails is left
            for the next.
        folder: Where a nameless temporary file may lie.
        progress: Who hears of retries.
        patience: Waits and limits.

    Raises:
        NoRangeError: The server sends whole files only.
        TransferError: No place has it; says what each of them answered.
    """
    file = RangeFile(remotes, folder, progress or Silent(), patience)
    try:
        yield file
    finally:
        file.close()
