"""Trust on first use: the hash that an address had when a file first came from it."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from schemas.atomic import write_json
from zoo.transfer.client import shown
from zoo.transfer.errors import WrongContentError
from zoo.transfer.remote import Download, Remote


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

    @classmethod
    def now(cls, found: Download) -> Self:
        """Return what to remember of a download."""
        url = found.url or ""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        return cls(FirstUses.key(url), shown(url), found.sha256, found.size, found.etag, day)

    def changed(self, name: str, found: str) -> WrongContentError:
        """Return the error for an address that delivers another file now."""
        return WrongContentError(
            f"{name} at {self.url} has changed since it was first used on {self.day}: its SHA-256 "
            f"was {self.sha256} and is {found} now",
            found=found,
            hint="ask its authors which file is right; `zoo cache rm --forget` and the old hash "
            "trusts the new one",
        )


class FirstUses:
    """A folder with a small file for each address, so that processes do not share one to write.

    Args:
        folder: Made when the first one is added.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def key(url: str) -> str:
        """Return the fingerprint of an address."""
        return hashlib.sha256(url.encode()).hexdigest()[:32]

    def of(self, remotes: Sequence[Remote]) -> FirstUse | None:
        """Return the first use of the first of these addresses that was used."""
        for remote in remotes:
            with suppress(OSError, ValueError, TypeError):
                text = self._path(self.key(remote.url)).read_text(encoding="utf-8")
                return FirstUse(**json.loads(text))
        return None

    def add(self, use: FirstUse) -> None:
        """Remember one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(use.key), asdict(use), indent=1)

    def forget(self, sha256: str) -> list[str]:
        """Forget all addresses that delivered a file; return them."""
        forgotten = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                document = json.loads(path.read_text(encoding="utf-8"))
                if document["sha256"] == sha256:
                    path.unlink()
                    forgotten.append(str(document["url"]))
        return forgotten

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
