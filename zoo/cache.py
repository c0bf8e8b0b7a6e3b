"""The cache of downloaded files: every file under the hash of its content.

The hash that an address had when a file first came from it is remembered (trust on first use).
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from schemas.base.environment import cache_folder, is_offline
from schemas.base.errors import TransferError, WriteError
from schemas.base.writing import file_sha256, write_json
from zoo.transfer.partial import file_lock, is_abandoned, remove
from zoo.transfer.remote import (
    PATIENT,
    Counted,
    Download,
    Progress,
    Remote,
    RetryPolicy,
    WrongContentError,
    shown,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache.

    Args:
        path: Where it is.
        sha256: Under which it is kept.
        size: Bytes.
        used: When it was asked for last; seconds since 1970.
    """

    path: Path
    sha256: str
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `Store.prune` removed, or would remove.

    Args:
        paths: The files.
        freed: Their bytes.
    """

    paths: list[Path]
    freed: int


@dataclass(frozen=True, slots=True)
class FirstUse:
    """What an address delivered first.

    Args:
        key: Fingerprint of the address; the address itself may hold secrets in its query.
        url: The address without them.
        sha256: Of the file.
        size: Bytes.
        etag: What the server said to tell versions apart.
        day: When, as `2026-11-22`.
    """

    key: str
    url: str
    sha256: str
    size: int
    etag: str | None
    day: str


class Store:
    """A folder `sha256/<ab>/<hash>/<name>`, so that where a file lies says what it must contain.

    A file is hashed when it arrives. A mark beside it then holds its size and time of change; as
    long as these stay the same it is not hashed again (`verify` does). Beside it, `first-use` has a
    small file for each address, so that processes do not share one to write.

    Args:
        root: The folder; None: `schemas.base.environment.cache_folder()`.
        policy: Waits and limits of transfers.
    """

    def __init__(self, root: Path | None = None, *, policy: RetryPolicy = PATIENT) -> None:
        self.root = root or cache_folder()
        self._policy = policy

    def fetch(
        self,
        remotes: Sequence[Remote],
        name: str,
        *,
        sha256: str | None,
        size: int | None,
        progress: Progress | None = None,
        offline: bool | None = None,
        command: str | None = None,
    ) -> Download:
        """Return a file of the cache, fetched if it is not there.

        Where no hash is known, the first download from an address is trusted, and its hash is
        expected of every later one.

        Args:
            remotes: Where it can be had; may be empty for a file that is here.
            name: Of the file.
            sha256: That it must have, or None.
            size: Bytes that it must have, or None.
            progress: Who watches.
            offline: Use only what is here; None: as `ZOO_OFFLINE` and `HF_HUB_OFFLINE` say.
            command: That would fetch it, for the message when offline; None: `zoo pull URL`.

        Raises:
            TransferError: When it is not here and cannot be fetched.
            WrongContentError: When what arrives has another hash than is known or was trusted.
        """
        if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
            raise TransferError(f"{name!r} cannot be the name of a file in the cache")
        first = None if sha256 else self.first_use(remote.url for remote in remotes)
        expected = first.sha256 if first else sha256
        if expected and (path := self.find(expected, name)):
            return Download.here(path, expected)
        if is_offline() if offline is None else offline:
            raise self._offline(remotes, name, command)
        if not remotes:
            raise TransferError(f"{name} is not in the cache, and no address of it is known")
        if expected is None:
            return self._fetch_first(remotes, name, size, progress)
        place = self._folder(expected) / name
        try:
            found = self._download(remotes, place, expected, size, progress)
        except WrongContentError as error:
            raise (_changed(first, name, error.found) if first else error) from error
        self._mark(found.path)
        return found

    def trusted(self, remotes: Sequence[Remote], name: str) -> Download | None:
        """Return the file that came when one of these addresses was first used, if it is here."""
        first = self.first_use(remote.url for remote in remotes)
        path = self.find(first.sha256, name) if first else None
        return Download.here(path, first.sha256) if first and path else None

    def first_use(self, urls: Iterable[str]) -> FirstUse | None:
        """Return what the first of these addresses that was used delivered then."""
        for url in urls:
            with suppress(OSError, ValueError, TypeError):
                text = self._first_use_of(url).read_text(encoding="utf-8")
                found = FirstUse(**json.loads(text))
                self._folder(found.sha256)  # a damaged record is none
                return found
        return None

    def files(self, sha256: str) -> list[Path]:
        """Return the paths of a file, by its hash; its content is not looked at."""
        return sorted(_files(self._folder(sha256)))

    def find(self, sha256: str, name: str | None = None) -> Path | None:
        """Return the file of a hash if it is here and whole; None if not.

        Args:
            sha256: Of its content.
            name: That the path must end in; None: any.
        """
        folder = self._folder(sha256)
        for path in sorted(_files(folder), key=lambda path: path.name != name):
            if not self._is_whole(path, sha256):
                continue
            if name is None or path.name == name:
                return path
            other = folder / name
            with suppress(OSError):
                other.unlink(missing_ok=True)
                os.link(path, other)
                self._mark(other)
                return other
        return None

    def entries(self) -> list[Entry]:
        """Return every file of the cache, the one used last first."""
        found = []
        for folder in (self.root / "sha256").glob("??/*"):
            for path in _files(folder):
                with suppress(OSError):
                    found.append(Entry(path, folder.name, path.stat().st_size, _used(path)))
        return sorted(found, key=lambda entry: (-entry.used, str(entry.path)))

    def verify(self) -> list[Entry]:
        """Hash every file again; return those whose content is not what their place says.

        Marks of good files are renewed, those of bad ones removed, so that the next use fetches
        them again.
        """
        damaged = []
        for entry in self.entries():
            _mark_of(entry.path).unlink(missing_ok=True)
            if not self._is_whole(entry.path, entry.sha256):
                damaged.append(entry)
        return damaged

    def remove(self, sha256: str) -> int:
        """Remove the file of a hash under all its names; return the bytes that are free now.

        That the address it came from was trusted stays known: see `forget`.
        """
        folder = self._folder(sha256)
        sizes = {path.stat().st_ino: path.stat().st_size for path in _files(folder)}
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
        return sum(sizes.values())

    def forget(self, sha256: str) -> list[str]:
        """Trust anew the addresses that first delivered this file; return them."""
        forgotten = []
        for path in sorted((self.root / "first-use").glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                document = json.loads(path.read_text(encoding="utf-8"))
                if document["sha256"] == sha256:
                    path.unlink()
                    forgotten.append(str(document["url"]))
        return forgotten

    def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> Pruned:
        """Remove partial files that nobody writes any more, and files not used for long.

        Args:
            older_than: Seconds since the last use; None: no whole file is removed.
            dry_run: Only say what would go.
        """
        abandoned = [path for path in self._partials() if is_abandoned(path)]
        oldest = -1.0 if older_than is None else time.time() - older_than
        unused = [entry.path for entry in self.entries() if entry.used < oldest]
        freed = sum(path.stat().st_size for path in (*abandoned, *unused))
        if not dry_run:
            for path in abandoned:
                remove(path)
            for path in unused:
                _mark_of(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            for pattern in ("sha256/??/*", "sha256/??", "incoming/*"):
                for folder in self.root.glob(pattern):
                    with suppress(OSError):  # it is not empty
                        folder.rmdir()
        return Pruned([*abandoned, *unused], freed)

    def _fetch_first(
        self, remotes: Sequence[Remote], name: str, size: int | None, progress: Progress | None
    ) -> Download:
        """Fetch a file whose hash nobody knows, and remember the hash."""
        folder = self.root / "incoming" / self._first_use_of(remotes[0].url).stem
        target = folder / name
        with file_lock(folder / "first-use", self._policy, progress or Counted()):
            there = self.trusted(remotes, name)
            if there is not None:
                return there
            target.unlink(missing_ok=True)
            found = self._download(remotes, target, None, size, progress)
            place = self._folder(found.sha256) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            target.replace(place)
            self._mark(place)
            if found.url is not None:
                self._remember(found, found.url)
        with suppress(OSError):
            folder.rmdir()
        return replace(found, path=place)

    def _download(
        self,
        remotes: Sequence[Remote],
        target: Path,
        sha256: str | None,
        size: int | None,
        progress: Progress | None,
    ) -> Download:
        from zoo.transfer.download import download

        return download(
            remotes, target, sha256=sha256, size=size, progress=progress, policy=self._policy
        )

    def _remember(self, found: Download, url: str) -> None:
        path = self._first_use_of(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        use = FirstUse(path.stem, shown(url), found.sha256, found.size, found.etag, day)
        write_json(path, asdict(use), indent=1)

    def _first_use_of(self, url: str) -> Path:
        """Return the file that remembers what an address delivered first."""
        key = hashlib.sha256(url.encode()).hexdigest()[:32]
        return self.root / "first-use" / f"{key}.json"

    def _offline(self, remotes: Sequence[Remote], name: str, command: str | None) -> TransferError:
        if command is None and remotes:
            command = f"zoo pull {shown(remotes[0].url)}"
        way = f"where there is a network, `{command}` fetches it; " if command else ""
        return TransferError(
            f"{name} is not in the cache {self.root}, and the network is not to be used",
            hint=f"{way}ZOO_CACHE says where the cache is",
        )

    def _folder(self, sha256: str) -> Path:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal")
        return self.root / "sha256" / sha256[:2] / sha256

    def _is_whole(self, path: Path, sha256: str) -> bool:
        mark = _mark_of(path)
        with suppress(OSError, ValueError):
            if json.loads(mark.read_text(encoding="utf-8")) == _state(path):
                with suppress(OSError):
                    os.utime(mark)
                return True
        with suppress(OSError):
            if file_sha256(path) == sha256:
                self._mark(path)
                return True
        return False

    def _mark(self, path: Path) -> None:
        with suppress(WriteError):  # a cache of others that may only be read
            write_json(_mark_of(path), _state(path), indent=1)

    def _partials(self) -> Iterator[Path]:
        yield from (self.root / "sha256").glob("??/*/.*.part")
        yield from (self.root / "incoming").glob("*/.*.part")


def _changed(first: FirstUse, name: str, found: str) -> WrongContentError:
    """Return the error for an address that delivers another file now."""
    return WrongContentError(
        f"{name} at {first.url} has changed since it was first used on {first.day}: its SHA-256 "
        f"was {first.sha256} and is {found} now",
        found=found,
        hint="ask its authors which file is right; `zoo cache rm --forget` and the old hash "
        "trusts the new one",
    )


def _files(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    return []


def _mark_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.verified")


def _used(path: Path) -> float:
    """Return when a file was asked for last: its mark is touched then, atimes are often off."""
    try:
        return _mark_of(path).stat().st_mtime
    except OSError:
        return path.stat().st_mtime


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
