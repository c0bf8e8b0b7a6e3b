"""A file on the network that is read in pieces."""

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import WriteError
from zoo.remote.requests import PartialRequests
from zoo.remote.spans import Span, Spans, coalesced
from zoo.transfer.client import shown
from zoo.transfer.patience import PATIENT, Patience
from zoo.transfer.remote import Progress, Remote
from zoo.transfer.silent import Silent

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
        patience: Patience,
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
    patience: Patience = PATIENT,
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
