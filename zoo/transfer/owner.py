"""Who writes a partial file, and whether that process is certainly gone."""

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Owner:
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
