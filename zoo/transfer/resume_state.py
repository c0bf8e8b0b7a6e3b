"""The state of a partial file, with which another process can go on."""

import json
import os
import socket
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from schemas.base.writing import write_json


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from others of its number.

    Args:
        host: Name of the machine.
        boot: Which start of that machine; "" where the system does not say.
        namespace: Of process numbers: containers of one machine may count each from 1.
        process: Number.
        started: Clock tick at which it began; "" where the system does not say.
    """

    host: str
    boot: str
    namespace: str
    process: int
    started: str

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        return cls(*_machine(), process=os.getpid(), started=_start(os.getpid()))

    @classmethod
    def of(cls, document: Any) -> Self | None:
        """Return the owner that a journal names, or None."""
        try:
            return cls(**document)
        except TypeError:
            return None

    def document(self) -> dict[str, Any]:
        """Return what a journal keeps."""
        return asdict(self)

    def same_start(self) -> bool:
        """Return whether this machine has been up ever since: what was written is still known."""
        return bool(self.boot) and (self.host, self.boot) == _machine()[:2]

    def certainly_gone(self) -> bool:
        """Return whether it has ended; False where that cannot be known from here."""
        # The same machine, the same start of it, and the same counting of processes: anything else
        # might be a living process of another machine that has the same name.
        if not self.boot or not self.namespace:
            return False
        if (self.host, self.boot, self.namespace) != _machine():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return bool(self.started) and _start(self.process) not in ("", self.started)


@cache
def _machine() -> tuple[str, str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return socket.gethostname(), boot, namespace


def _start(process: int) -> str:
    try:
        line = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # The second field is the program's name, which may hold spaces and brackets.
    return line.rpartition(")")[2].split()[19]


_VERSION = 1


@dataclass(frozen=True, slots=True)
class ResumeState:
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
    owner: ProcessId | None = field(default_factory=ProcessId.current)

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
                owner=ProcessId.of(document["owner"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def claimed(self) -> Self:
        """Return the same with this process as its owner."""
        return replace(self, owner=ProcessId.current())
