"""Who counts the bytes of a transfer, and passes everything on to whoever watches."""

from zoo.transfer.remote import Progress
from zoo.transfer.silent import Silent


class Counting:
    """A `Progress` that knows how much came.

    Args:
        watcher: Told everything as well.
    """

    def __init__(self, watcher: Progress | None) -> None:
        self._watcher = watcher or Silent()
        self.received = 0

    def start(self, name: str, total: int | None, done: int) -> None:
        """A file begins."""
        self._watcher.start(name, total, done)

    def advance(self, amount: int) -> None:
        """More bytes have arrived."""
        self.received += amount
        self._watcher.advance(amount)

    def say(self, message: str) -> None:
        """Something a person should know."""
        self._watcher.say(message)

    def finish(self) -> None:
        """The file is complete, or given up."""
        self._watcher.finish()
