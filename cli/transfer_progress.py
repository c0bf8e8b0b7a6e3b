"""What a person sees of a transfer: a bar on a terminal, lines elsewhere."""

import time
from typing import TYPE_CHECKING, Self

from cli.output import Output

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_EVERY = 10.0


def transfer_progress(out: Output) -> "TransferBar | TransferLines":
    """Return who watches the transfers of a command: a `zoo.transfer.remote.Progress`.

    On a terminal a bar with rate and time left; elsewhere a line when a file begins, every ten
    seconds and when it is complete. Under `--quiet` and `--json` nothing. Use it with `with`.
    """
    console = out.console()
    if console.is_terminal and not console.is_dumb_terminal and not (out.quiet or out.json_mode):
        return TransferBar(out)
    return TransferLines(out)


class TransferBar:
    """A bar for the file that is on its way; what is said stands above it.

    Args:
        out: Of the command; its console honours NO_COLOR.
    """

    def __init__(self, out: Output) -> None:
        self._console = out.console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def start(self, name: str, total: int | None, done: int) -> None:
        """Show a bar, or set the one of this file back to `done` bytes."""
        if self._bar is None:
            self._bar = self._new_bar()
            self._bar.start()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total, completed=done)

    def advance(self, amount: int) -> None:
        """Move it on."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, amount)

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, markup=False, highlight=False)

    def finish(self) -> None:
        """Leave the bar as it stands and go on below it."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _new_bar(self) -> "Progress":
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )


class TransferLines:
    """Plain lines on stderr, few enough for the log of a batch job; none when it is quiet.

    Args:
        out: Of the command.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._silent = out.quiet or out.json_mode
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._begin = (0.0, 0)
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """Print which file begins and how much of it is here; its total may become known later."""
        now = time.monotonic()
        if (name, total) != (self._name, self._total) and total is not None:
            here = f", {_size(done)} of it are here" if done else ""
            self.say(f"{name}: {_size(total)}{here}")
        self._name, self._total, self._done = name, total, done
        self._begin, self._last = (now, done), now

    def advance(self, amount: int) -> None:
        """Print how far it is, now and then."""
        self._done += amount
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        rate = (self._done - self._begin[1]) / max(now - self._begin[0], 1e-3)
        line = f"{self._name}: {_size(self._done)}"
        if self._total:
            line += f" of {_size(self._total)} ({self._done / self._total:.0%})"
        line += f", {_size(rate)}/s"
        if self._total and rate > 0:
            line += f", {_duration((self._total - self._done) / rate)} left"
        self.say(line)

    def say(self, message: str) -> None:
        """Print a line."""
        if not self._silent:
            self._out.info(message)

    def finish(self) -> None:
        """Print that the file is complete, if it is."""
        if self._total is not None and self._done >= self._total:
            seconds = time.monotonic() - self._begin[0]
            self.say(f"{self._name}: complete after {_duration(seconds)}")
        self._name, self._total = "", None


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
