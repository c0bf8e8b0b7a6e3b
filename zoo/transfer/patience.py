"""How long a transfer waits, and how often it tries again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits and limits of a transfer; all times in seconds.

    Args:
        connect: For a connection to open.
        stall: Without a byte before the connection is given up and opened again.
        slowest: Bytes a second, averaged over `stall`; a slower connection counts as stalled.
        attempts: Failures of one source without progress in between before it is given up.
        first_wait: Before the second attempt; each further one waits twice as long.
        longest_wait: Between two attempts.
        longest_retry_after: A server that asks for a longer pause than this is given up.
        poll: Between two looks at a lock that another process holds.
        heartbeat: Between two signs of life of the process that holds a lock.
        silence: Without a sign of life before a lock of another machine is taken over.
        restarts: Times that a transfer begins again because the file changed meanwhile.
        sync_bytes: Between two syncs of a partial file to the disk.
        sync_seconds: Likewise.
    """

    connect: float = 15.0
    stall: float = 30.0
    slowest: float = 128.0
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_retry_after: float = 120.0
    poll: float = 0.2
    heartbeat: float = 5.0
    silence: float = 90.0
    restarts: int = 4
    sync_bytes: int = 64 << 20
    sync_seconds: float = 5.0

    def wait(self, failures: int) -> float:
        """Return the pause after so many failures in a row.

        It doubles each time and has a random share, so that many processes that lost the same
        server do not come back together.
        """
        longest = min(self.first_wait * 2.0 ** max(0, failures - 1), self.longest_wait)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret


PATIENT = Patience()
