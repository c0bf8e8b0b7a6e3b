"""What is known about a partial file: enough for another process to go on with it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from schemas.atomic import write_json
from zoo.transfer.owner import Owner

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Journal:
    """The small file beside a partial file.

    Args:
        sha256: That the whole file must have; None where it is unknown.
        size: Bytes of the whole file; None where it is unknown.
        sources: Fingerprints of the addresses that contributed bytes, in order.
        validator: What the last of them said to tell versions apart (a strong ETag, or the time of
            the last change); None where it said nothing usable.
        synced: Bytes known to be on the disk.
        owner: The process that writes; None when it has let go.
    """

    sha256: str | None
    size: int | None
    sources: tuple[str, ...] = ()
    validator: str | None = None
    synced: int = 0
    owner: Owner | None = field(default_factory=Owner.current)

    def write(self, path: Path) -> None:
        """Replace the journal on the disk."""
        document = {
            "version": _VERSION,
            "sha256": self.sha256,
            "size": self.size,
            "sources": list(self.sources),
            "validator": self.validator,
            "synced": self.synced,
            "owner": self.owner and self.owner.document(),
        }
        write_json(path, document, indent=1)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the journal of a file; None when it is missing, damaged or of another version."""
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
            if document["version"] != _VERSION or document["synced"] < 0:
                return None
            return cls(
                sha256=document["sha256"],
                size=document["size"],
                sources=tuple(document["sources"]),
                validator=document["validator"],
                synced=document["synced"],
                owner=Owner.of(document["owner"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def claimed(self) -> Self:
        """Return the same with this process as its owner."""
        return replace(self, owner=Owner.current())
