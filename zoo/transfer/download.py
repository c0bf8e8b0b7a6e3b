"""Download of a file from one of several sources: complete and right, or not there at all."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx2

from schemas.base.errors import TransferError
from schemas.base.writing import file_sha256
from zoo.transfer.client import (
    Refusal,
    Reply,
    Setback,
    check_beginning,
    check_url,
    new_client,
    requested,
)
from zoo.transfer.partial import PartialFile, file_lock
from zoo.transfer.remote import (
    PATIENT,
    Counted,
    Download,
    Progress,
    Remote,
    RetryPolicy,
    WrongContentError,
)
from zoo.transfer.sources import Source, Sources

_BEGINNING = 512
_LOOK_AT_SPACE = 64 << 20


def download(
    remotes: Sequence[Remote],
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    progress: Progress | None = None,
    policy: RetryPolicy = PATIENT,
) -> Download:
    """Fetch a file, going on with what an earlier attempt left.

    Sources are tried in order. One that stalls, breaks off or answers with an error that passes is
    asked again after a growing pause; where the hash is known, the next source goes on in the
    middle of the file meanwhile. One that answers with an error that stays, with a web page or with
    a Git LFS pointer is left out. A file that is complete but has another hash is fetched once more
    from one source alone, and never gets its name.

    Several processes that want the same target download it once: the others wait, say so, and find
    it there. How partial files survive crashes: `zoo.transfer.partial`.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        target: Where it is to be. A file of another content there is replaced when the new one is
            complete; one with the right hash is left alone.
        sha256: That it must have, in lower-case hexadecimal; None where nobody knows it. Then only
            lengths and ETags tell whether the file is complete, and it comes from one source.
        size: Bytes that it must have, or None.
        progress: Who watches.
        policy: Waits and limits.

    Raises:
        TransferError: When no source delivers; says what each of them did. What arrived is kept for
            the next attempt.
        WrongContentError: When what arrived is another file than the hash or size says.
    """
    for remote in remotes:
        check_url(remote)
    counter = Counted(progress)
    before = _state(target)
    if sha256 is not None and (there := _present(target, sha256)) is not None:
        return there
    with file_lock(target, policy, counter):
        made_meanwhile = _state(target) not in (None, before)
        if made_meanwhile and (there := _present(target, sha256)) is not None:
            return there
        partial = PartialFile.claim(target, sha256=sha256, size=size)
        try:
            return _Transfer(remotes, partial, size, counter, policy).run()
        finally:
            partial.let_go()
            counter.finish()


class _Transfer:
    """A transfer into a partial file that this process owns.

    Args:
        remotes: Where the file can be had, in order.
        partial: What is here of it.
        size: That it must have, or None.
        progress: Counts the bytes.
        policy: Waits and limits.
    """

    def __init__(
        self,
        remotes: Sequence[Remote],
        partial: PartialFile,
        size: int | None,
        progress: Counted,
        policy: RetryPolicy,
    ) -> None:
        self._name = partial.target.name
        self._sources = Sources(self._name, remotes, policy, progress)
        self._partial = partial
        self._size = size
        self._progress = progress
        self._policy = policy
        self._restarts = 0
        # With the hash known, any source may go on where another stopped. Where it is unknown, or
        # after a mismatch, the file comes from one source.
        self._alone = partial.sha256 is None
        # Which sources the bytes came from; "" for an earlier process.
        self._contributors = {""} if partial.length else set()
        self._last: Remote | None = None

    def run(self) -> Download:
        """Return the file under its name.

        Raises:
            TransferError: When no source delivers or the disk is full.
            WrongContentError: When what arrives is another file.
        """
        partial, policy = self._partial, self._policy
        if self._size is not None:
            partial.check_space(self._size)
        with new_client(policy.stall, policy.connect) as client:
            self._show()
            while True:
                self._fetch(client)
                found = partial.digest()
                right = self._size in (None, partial.length) and partial.sha256 in (None, found)
                if right:
                    partial.install()
                    return self._arrived(found)
                self._mismatch(found)

    def _arrived(self, found: str) -> Download:
        last, partial = self._last, self._partial
        return Download(
            path=partial.target,
            sha256=found,
            size=partial.length,
            received=self._progress.received,
            source=last.label if last else "this machine",
            url=last.url if last else None,
            etag=partial.version if last else None,
        )

    def _fetch(self, client: httpx2.Client) -> None:
        """Return when the partial file is complete as far as lengths say."""
        partial = self._partial
        if partial.sha256 is not None and partial.length == self._total() != 0:
            return
        try:
            source = self._sources.ask(
                lambda source: self._ask(client, source),
                lambda: self._progress.received,
                self._choose,
            )
        except TransferError as error:
            if partial.length:
                kept = f"{partial.length / 1e6:.1f} MB are kept"
                hint = f"{error.hint}; {kept}: the same command goes on from there"
                raise TransferError(error.message, hint=hint) from error
            raise
        self._last = source.remote

    def _choose(self) -> Source | None:
        partial, source = self._partial, self._sources.next()
        if not self._alone or partial.length == 0:
            return source
        for same in self._sources.all:
            if same.key == partial.source and not same.is_out:
                return same
        if source is not None:
            self._start_over(f"{self._name} begins again from {source.remote.label}")
        return source

    def _ask(self, client: httpx2.Client, source: Source) -> bool:
        """Append what a source sends; return whether the file is complete."""
        wish = self._wish(source)
        with requested(client, source.remote, wish, stall=self._policy.stall) as reply:
            if reply.status == 206:
                return self._part(reply, source)
            if reply.status == 200:
                return self._whole(reply, source)
            return self._nothing_beyond(reply, source)

    def _wish(self, source: Source) -> dict[str, str]:
        partial = self._partial
        if partial.length and partial.source == source.key and partial.version is not None:
            return {"Range": f"bytes={partial.length}-", "If-Range": partial.version}
        if partial.length and partial.sha256 is None:
            # Nothing proves that the rest would belong to the same version of the file.
            self._start_over(f"{source.remote.label} does not tell versions apart; beginning again")
        return {"Range": f"bytes={partial.length}-"} if partial.length else {}

    def _part(self, reply: Reply, source: Source) -> bool:
        partial, total = self._partial, reply.total
        if partial.length == 0 or reply.start != partial.length:
            raise Setback("it sends another part than was asked for")
        same_source = partial.source == source.key
        another_size = total is not None and partial.size not in (None, total)
        if same_source and (another_size or _differ(reply.version, partial.version)):
            self._changed(source)
        if another_size:
            raise Setback(f"it has a file of {total} bytes, {partial.size} expected")
        version = reply.version or (partial.version if same_source else None)
        self._append(reply, source, reply.response.iter_raw(), version)
        if partial.length == reply.start:
            raise Setback("it sends an empty part")
        return self._ended(reply)

    def _whole(self, reply: Reply, source: Source) -> bool:
        partial, total = self._partial, reply.total
        pieces = reply.response.iter_raw()
        beginning = b""
        for piece in pieces:
            beginning += piece
            if len(beginning) >= _BEGINNING:
                break
        # First the look at what came: a login page must not cost what is here already.
        check_beginning(reply, beginning, self._name)
        if not reply.is_bounded and self._size is None and partial.sha256 is None:
            raise Refusal("it does not say how long the file is, so nobody can tell if it is whole")
        self._check_total(total)
        if partial.length:
            same_version = reply.version == partial.version and total == partial.length
            if partial.sha256 is None and same_version:
                return True
            self._start_over(f"{source.remote.label} sends the file from its beginning")
        if total is not None:
            partial.check_space(total)
        self._append(reply, source, itertools.chain([beginning], pieces), reply.version)
        return self._ended(reply)

    def _nothing_beyond(self, reply: Reply, source: Source) -> bool:
        """Return True for a 416 that means: you have it all."""
        partial = self._partial
        if partial.length == 0:
            raise Setback(f"it answers {reply.status} to a request for the whole file")
        changed = partial.source == source.key and _differ(reply.version, partial.version)
        if reply.total == partial.length and not changed:
            return True
        self._changed(source)
        return False

    def _ended(self, reply: Reply) -> bool:
        """Return whether a body that ended in good order completes the file."""
        partial = self._partial
        for expected in (reply.total, self._size):
            if expected is not None and partial.length < expected:
                raise Setback(f"it broke off after {partial.length} of {expected} bytes")
        if partial.sha256 is not None or self._size is not None:
            return True
        # Nobody vouches for the length: ask whether there is more, if that can be asked.
        return partial.version is None or not reply.may_continue

    def _append(
        self, reply: Reply, source: Source, pieces: Iterable[bytes], version: str | None
    ) -> None:
        """Append what a source sends, and note whose bytes they are."""
        partial, total = self._partial, reply.total
        self._check_total(total)
        self._contributors.add(source.key)
        known = partial.size if partial.length else self._size
        partial.note(source=source.key, version=version, size=total or known)
        if partial.length == 0:
            self._show()
        limit = total if total is not None else self._size
        for piece in pieces:
            if limit is not None and partial.length + len(piece) > limit:
                self._start_over(f"more than the {limit} bytes of {self._name} came")
                raise Setback(f"it sends more than {limit} bytes")
            partial.append(piece)
            if limit is None and partial.length % _LOOK_AT_SPACE < len(piece):
                partial.check_space(partial.length)
            self._progress.advance(len(piece))

    def _check_total(self, total: int | None) -> None:
        if total is not None and self._size not in (None, total):
            raise Setback(f"it has a file of {total} bytes, {self._size} expected")

    def _changed(self, source: Source) -> None:
        self._start_over(f"the file at {source.remote.label} has changed; beginning again")
        raise Setback("the file changed while it was fetched")

    def _start_over(self, why: str) -> None:
        self._restarts += 1
        if self._restarts > self._policy.restarts:
            raise TransferError(
                f"{self._name} had to be begun {self._restarts} times: {why}",
                hint="the file seems to change all the time; try again later, or another source",
            )
        self._progress.say(why)
        self._empty()

    def _empty(self) -> None:
        self._partial.start_over()
        self._contributors = set()
        self._show()

    def _mismatch(self, found: str) -> None:
        """Prepare the second chance of a complete file with another hash.

        Raises:
            WrongContentError: When every source has had it.
        """
        length = self._partial.length
        sources = self._sources.all
        for source in sources:
            if self._contributors == {source.key}:
                source.wrong += 1
                source.reason = f"it sends a file with SHA-256 {found}"
                source.is_out = source.wrong > 1 or len(sources) > 1
        self._alone = True
        self._empty()
        living = self._sources.next()
        if living is None:
            raise WrongContentError(
                f"what {self._last.label if self._last else 'an earlier attempt'} sent is not "
                f"{self._name}: {self._difference(length, found)}",
                found=found,
                hint="the file was replaced there or is damaged; nothing was installed",
            )
        self._progress.say(
            f"{self._name} arrived damaged; fetching it once more from {living.remote.label} alone"
        )

    def _difference(self, length: int, found: str) -> str:
        if self._size not in (None, length):
            return f"it has {length} bytes, {self._size} expected"
        return f"its SHA-256 is {found}, {self._partial.sha256} expected"

    def _total(self) -> int | None:
        return self._size if self._size is not None else self._partial.size

    def _show(self) -> None:
        self._progress.start(self._name, self._total(), self._partial.length)


def _differ(now: str | None, before: str | None) -> bool:
    """Return whether two versions are known, and are not the same."""
    return now is not None and before is not None and now != before


def _state(target: Path) -> tuple[int, int, int] | None:
    try:
        found = target.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _present(target: Path, sha256: str | None) -> Download | None:
    """Return a file that is there with the right content; None: any, since it is new."""
    try:
        found = file_sha256(target)
    except IsADirectoryError as error:
        raise TransferError(
            f"{target} is a folder", hint="choose another name for the file"
        ) from error
    except OSError:
        return None
    return Download.here(target, found) if sha256 in (None, found) else None
