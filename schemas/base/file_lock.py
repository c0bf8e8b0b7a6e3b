"""A marker file that says who is at work, on this machine or on another one."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLock, Timeout


class Marker:
    """A lock that one process holds: a file created exclusively.

    NFS, Lustre and GPFS do honour that where flock is switched off or local to a node. The file
    names its holder's process and machine: on the same machine a marker whose process is gone is
    taken over at once. The holder touches it every few seconds, so that others can see from another
    machine whether it lives.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = SoftFileLock(path, thread_local=False)

    def take(self) -> bool:
        """Return whether it is ours now.

        Raises:
            OSError: When the folder cannot be written.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def take_from_the_dead(self) -> None:
        """Remove it, for a holder on another machine that gives no sign of life any more."""
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    @contextmanager
    def kept(self, heartbeat: float) -> Iterator[None]:
        """Touch it every `heartbeat` seconds, and give it back in the end."""
        done = threading.Event()
        keeper = threading.Thread(target=self._keep_alive, args=(done, heartbeat), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()
            self.release()

    def _keep_alive(self, done: threading.Event, every: float) -> None:
        while not done.wait(every):
            with suppress(OSError):  # taken over
                os.utime(self.path)

    def touched(self) -> int | None:
        """Return when it was last touched, ns by the clock of its disk; None: it is not there."""
        try:
            with self.path.open("rb") as stream:  # NFS looks at the file itself when it is opened
                return os.fstat(stream.fileno()).st_mtime_ns
        except OSError:
            return None

    def holder(self) -> str:
        """Return the words for who holds it."""
        process, machine = self._record()
        return f"process {process} on {machine}" if process else "another process"

    def is_of_this_machine(self) -> bool:
        """Return whether it says that its holder runs here."""
        return self._record()[1] == socket.gethostname()

    def _record(self) -> tuple[str, str]:
        """Return the process and the machine that the file names, a line each."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split()
        except OSError:
            return "", ""
        return (lines[0], lines[1]) if len(lines) >= 2 and lines[0].isdigit() else ("", "")
