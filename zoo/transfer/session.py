"""One transfer into a partial file: asks its sources until the file is complete and right."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx2

from schemas.base.errors import TransferError
from zoo.transfer import reply as replies
from zoo.transfer.client import is_distrust, new_client, open_reply, shown
from zoo.transfer.partial import Partial
from zoo.transfer.remote import (
    Download,
    ForbiddenAddressError,
    Progress,
    Remote,
    RetryPolicy,
    WrongContentError,
)
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

    def set_back(self, setback: Setback, progress: int, patience: RetryPolicy) -> None:
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


_BEGINNING = 512
_WORTH_SAYING = 0.1
_LOOK_AT_SPACE = 64 << 20


class Session:
    """A transfer into a partial file that this process owns.

    Args:
        remotes: Where the file can be had, in order.
        partial: What is here of it; its journal says which hash is wanted.
        size: That it must have, or None.
        progress: Who watches.
        patience: Waits and limits.
    """

    def __init__(
        self,
        remotes: Sequence[Remote],
        partial: Partial,
        size: int | None,
        progress: Progress,
        patience: RetryPolicy,
    ) -> None:
        self._sources = [Source(remote, order) for order, remote in enumerate(remotes)]
        self._partial = partial
        self._sha256 = partial.journal.sha256
        self._size = size
        self._progress = progress
        self._patience = patience
        self._name = partial.target.name
        self._received = 0
        self._restarts = 0
        self._mismatches = 0
        # With the hash known, any source may go on where another stopped. Where it is unknown, or
        # after a mismatch, the file comes from one source.
        self._alone = self._sha256 is None
        self._from_zero = partial.length == 0
        self._last: Remote | None = None

    def run(self) -> Download:
        """Return the file under its name.

        Raises:
            TransferError: When no source delivers or the disk is full.
            WrongContentError: When what arrives is another file.
        """
        partial = self._partial
        timeout = httpx2.Timeout(self._patience.stall, connect=self._patience.connect)
        if self._size is not None:
            partial.check_space(self._size)
        with new_client(timeout=timeout) as client:
            self._show()
            while True:
                self._fetch(client)
                found = partial.digest()
                if self._is_right(found):
                    partial.install()
                    return self._arrived(found)
                self._mismatch(found)

    def _arrived(self, found: str) -> Download:
        last, partial = self._last, self._partial
        return Download(
            path=partial.target,
            sha256=found,
            size=partial.length,
            received=self._received,
            source=last.label if last else "this machine",
            url=last.url if last else None,
            etag=partial.journal.validator if last else None,
        )

    def _is_right(self, found: str) -> bool:
        if self._size is not None and self._partial.length != self._size:
            return False
        return self._sha256 in (None, found)

    def _fetch(self, client: httpx2.Client) -> None:
        """Return when the partial file is complete as far as lengths say."""
        if self._sha256 is not None and self._partial.length == self._total() != 0:
            return
        while True:
            source = self._choose()
            if source is None:
                raise all_failed(self._name, self._sources, self._partial.length)
            pause = source.ready - time.monotonic()
            if pause > 0:
                if pause >= _WORTH_SAYING:
                    self._progress.say(f"{source.label}: trying again in {pause:.1f} s")
                time.sleep(pause)
            before = self._received
            try:
                if self._ask(client, source):
                    self._last = source.remote
                    return
            except Setback as setback:
                source.set_back(setback, self._received - before, self._patience)
                self._progress.say(f"{source.label}: {source.reason}")
            except Refusal as refusal:
                source.refuse(refusal)
                self._progress.say(f"{source.label}: {refusal.reason}")

    def _choose(self) -> Source | None:
        contributors = self._partial.journal.sources
        if not self._alone or self._partial.length == 0:
            return next_source(self._sources)
        for source in self._sources:
            if source.key in contributors[-1:] and not source.is_out:
                return source
        other = next_source(self._sources)
        if other is not None:
            self._start_over(f"{self._name} begins again from {other.label}")
        return other

    def _ask(self, client: httpx2.Client, source: Source) -> bool:
        """Append what a source sends; return whether the file is complete."""
        try:
            with open_reply(client, "GET", source.remote, self._wish(source)) as reply:
                replies.check_status(reply)
                if reply.status_code == 416:
                    return self._nothing_beyond(reply, source)
                if reply.status_code == 206:
                    return self._part(reply, source)
                return self._whole(reply, source)
        except ForbiddenAddressError as error:
            raise Refusal(error.message, hint=error.hint) from error
        except httpx2.TimeoutException as error:
            raise Setback(f"nothing came for {self._patience.stall:g} s") from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            if is_distrust(error):
                raise Refusal(
                    "its certificate is not trusted",
                    hint="where a proxy or a private server has a certificate of its own, let "
                    "SSL_CERT_FILE name the file of the authority that signed it",
                ) from error
            raise Setback(
                f"the connection failed: {error}" if str(error) else "the connection failed"
            ) from error

    def _wish(self, source: Source) -> dict[str, str]:
        partial = self._partial
        if partial.length == 0:
            return {}
        journal = partial.journal
        headers = {"Range": f"bytes={partial.length}-"}
        if journal.sources[-1:] == (source.key,) and journal.validator is not None:
            headers["If-Range"] = journal.validator
        elif self._sha256 is None:
            # Nothing proves that the rest would belong to the same version of the file.
            self._start_over(f"{source.label} does not tell versions apart; beginning again")
            return {}
        return headers

    def _part(self, reply: httpx2.Response, source: Source) -> bool:
        partial = self._partial
        start, total = replies.content_range(reply)
        if partial.length == 0 or start != partial.length:
            raise Setback("it sends another part than was asked for")
        journal = partial.journal
        now = replies.validator(reply)
        same_source = journal.sources[-1:] == (source.key,)
        if same_source and now and journal.validator and now != journal.validator:
            self._changed(source)
        if total is not None and journal.size not in (None, total):
            if same_source:
                self._changed(source)
            raise Setback(f"it has a file of {total} bytes, {journal.size} expected")
        self._check_total(total)
        partial.note(
            source=source.key,
            validator=now or (journal.validator if same_source else None),
            size=total or journal.size,
        )
        self._append(reply.iter_raw(), total)
        if partial.length == start:
            raise Setback("it sends an empty part")
        return self._ended(reply, total)

    def _whole(self, reply: httpx2.Response, source: Source) -> bool:
        partial = self._partial
        total = replies.content_length(reply)
        version = replies.validator(reply)
        pieces = reply.iter_raw()
        beginning = b""
        for piece in pieces:
            beginning += piece
            if len(beginning) >= _BEGINNING:
                break
        # First the look at what came: a login page must not cost what is here already.
        replies.check_beginning(reply, beginning, self._name)
        chunked = "chunked" in reply.headers.get("Transfer-Encoding", "").lower()
        if total is None and not chunked and self._size is None and self._sha256 is None:
            raise Refusal("it does not say how long the file is, so nobody can tell if it is whole")
        self._check_total(total)
        if partial.length:
            known = partial.journal.validator
            if self._sha256 is None and version == known and total == partial.length:
                return True
            self._start_over(f"{source.label} sends the file from its beginning")
        partial.note(source=source.key, validator=version, size=total or self._size)
        if total is not None:
            partial.check_space(total)
        self._show()
        self._append(_joined(beginning, pieces), total)
        return self._ended(reply, total)

    def _nothing_beyond(self, reply: httpx2.Response, source: Source) -> bool:
        """Return True for a 416 that means: you have it all."""
        partial = self._partial
        if partial.length == 0:
            raise Setback("it answers 416 to a request for the whole file")
        _, total = replies.content_range(reply)
        now, known = replies.validator(reply), partial.journal.validator
        same_version = (
            not (now and known and now != known) or source.key not in (partial.journal.sources[-1:])
        )
        if total == partial.length and same_version:
            return True
        self._changed(source)
        return False

    def _ended(self, reply: httpx2.Response, total: int | None) -> bool:
        """Return whether a body that ended in good order completes the file."""
        partial = self._partial
        if total is not None and partial.length < total:
            raise Setback(f"it broke off after {partial.length} of {total} bytes")
        if self._size is not None and partial.length < self._size:
            raise Setback(f"it broke off after {partial.length} of {self._size} bytes")
        if self._sha256 is not None or self._size is not None:
            return True
        # Nobody vouches for the length: ask whether there is more, if that can be asked.
        ranges = reply.status_code == 206 or reply.headers.get("Accept-Ranges") == "bytes"
        return partial.journal.validator is None or not ranges

    def _append(self, pieces: Iterator[bytes], total: int | None) -> None:
        partial, progress, patience = self._partial, self._progress, self._patience
        limit = total if total is not None else self._size
        since, floor = time.monotonic(), 0.0
        for piece in pieces:
            if limit is not None and partial.length + len(piece) > limit:
                self._start_over(f"more than the {limit} bytes of {self._name} came")
                raise Setback(f"it sends more than {limit} bytes")
            partial.append(piece)
            if limit is None and partial.length % _LOOK_AT_SPACE < len(piece):
                partial.check_space(partial.length)
            self._received += len(piece)
            progress.advance(len(piece))
            floor += len(piece)
            now = time.monotonic()
            if now - since > patience.stall:
                if floor < patience.slowest * (now - since):
                    raise Setback(f"only {floor:.0f} bytes came in {now - since:.0f} s")
                since, floor = now, 0.0

    def _check_total(self, total: int | None) -> None:
        if total is not None and self._size is not None and total != self._size:
            raise Setback(f"it has a file of {total} bytes, {self._size} expected")

    def _changed(self, source: Source) -> None:
        self._start_over(f"the file at {source.label} has changed; beginning again")
        raise Setback("the file changed while it was fetched")

    def _start_over(self, why: str) -> None:
        self._restarts += 1
        if self._restarts > self._patience.restarts:
            raise TransferError(
                f"{self._name} had to be begun {self._restarts} times: {why}",
                hint="the file seems to change all the time; try again later, or another source",
            )
        self._progress.say(why)
        self._partial.start_over()
        self._from_zero = True
        self._show()

    def _mismatch(self, found: str) -> None:
        """Prepare the second chance of a complete file with another hash.

        Raises:
            WrongContentError: When it has had it.
        """
        self._mismatches += 1
        sources = self._partial.journal.sources
        for source in self._sources:
            if self._from_zero and sources == (source.key,):
                source.wrong += 1
                source.reason = f"it sends a file with SHA-256 {found}"
        length = self._partial.length
        self._partial.start_over()
        living = next_source(self._sources)
        if living is None or self._mismatches > len(self._sources) or self._all_were_wrong():
            raise WrongContentError(
                f"what {self._last.label if self._last else 'an earlier attempt'} sent is not "
                f"{self._name}: {self._difference(length, found)}",
                found=found,
                hint="the file was replaced there or is damaged; nothing was installed",
            )
        self._alone = True
        self._from_zero = True
        self._progress.say(
            f"{self._name} arrived damaged; fetching it once more from {living.label} alone"
        )
        self._show()

    def _all_were_wrong(self) -> bool:
        """Return whether each of several sources has sent the whole file, and the wrong one."""
        living = [source for source in self._sources if not source.is_out]
        return len(self._sources) > 1 and all(source.wrong for source in living)

    def _difference(self, length: int, found: str) -> str:
        if self._size is not None and length != self._size:
            return f"it has {length} bytes, {self._size} expected"
        return f"its SHA-256 is {found}, {self._sha256} expected"

    def _total(self) -> int | None:
        return self._size if self._size is not None else self._partial.journal.size

    def _show(self) -> None:
        self._progress.start(self._name, self._total(), self._partial.length)


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
