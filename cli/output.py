"""The one place that prints: data to stdout, everything else to stderr, human or `--json`."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.base.terminal import console, one_line, unguarded

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table


def open_missing_streams() -> None:
    """Let streams that were closed before the start (`zoo ... 2>&-`) lead nowhere.

    The next file that is opened would take their place, and get what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


_GAP = 3
"""Columns of the terminal between two columns of a table."""


@dataclass
class Output:
    """Where a command's results and messages go; its fields are the command's options.

    Args:
        json_mode: Print results as one JSON document on stdout and nothing else there.
        quiet: Leave out messages (never results, warnings or errors).
    """

    json_mode: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages, only results.")] = False

    def console(self, *, stderr: bool = True) -> "Console":
        """Return a rich console (rich honours NO_COLOR, TERM=dumb and pipes by itself)."""
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else 100
        return console(stream, width=width, soft_wrap=not stream.isatty())

    def result(self, document: Mapping[str, Any]) -> None:
        """Print the machine-readable result, paths as text; only under `--json`."""
        if self.json_mode:
            written = json.dumps(
                document, indent=2, ensure_ascii=False, allow_nan=False, default=os.fspath
            )
            sys.stdout.write(written)
            sys.stdout.write("\n")

    def text(self, line: str = "") -> None:
        """Print one line of the human-readable result on stdout; nothing under `--json`."""
        if not self.json_mode:
            sys.stdout.write(line + "\n")

    def painted(self, line: str) -> None:
        """Print a line with colours in it; whoever paints makes the text harmless first."""
        if not self.json_mode:
            unguarded(sys.stdout).write(line + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table on stdout: the first column left-aligned, the others right-aligned.

        What is wider than the terminal goes on below, with the first column once more. That one
        is folded where it must be, and headings that are too long; never a number.
        """
        if self.json_mode:
            return
        console = self.console(stderr=False)
        cells = [[one_line(str(cell)) for cell in row] for row in (columns, *rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for number, (first, end) in enumerate(_parts(widths, console.width)):
            part = [[row[0], *row[first:end]] for row in cells]
            console.print(_table("" if number else one_line(title), part, console.width))

    def plain_table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table on stdout without rich, which alone takes half as long as `zoo list`."""
        if self.json_mode:
            return
        shown = [[one_line(str(cell)) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
        for row in (columns, ["-" * width for width in widths], *shown):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")

    def info(self, message: str) -> None:
        """Print a message for a person on stderr."""
        if not self.quiet:
            sys.stderr.write(message + "\n")

    def warning(self, message: str) -> None:
        """Print a warning on stderr."""
        sys.stderr.write(f"warning: {message}\n")

    @contextmanager
    def status(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show that something is going on and since when (a spinner on a terminal, else a line).

        Yields what to call with the name of the next stage.
        """
        if self.quiet or not sys.stderr.isatty():
            self.info(what)
            yield self.info
            return
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}", markup=False)
        with self.bars(SpinnerColumn(), text, TimeElapsedColumn()) as progress:
            task = progress.add_task(one_line(what))
            yield lambda stage: progress.update(task, description=one_line(f"{what}: {stage}"))

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar on stderr where that is a terminal; yields what to call with progress made."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with self.bars(*columns) as progress:
            task = progress.add_task(one_line(what), total=total)
            yield lambda made: progress.advance(task, made)

    def bars(self, *columns: "ProgressColumn", transient: bool = True) -> "Progress":
        """Return bars of rich on stderr, gone at the end if `transient`; none where it is quiet."""
        from rich.progress import Progress

        console = self.console()
        hidden = self.quiet or not console.is_terminal
        return Progress(*columns, console=console, transient=transient, disable=hidden)

    @contextmanager
    def python_warnings(self) -> Iterator[None]:
        """Print Python warnings as one line each, after the block and each text once."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            yield
        for text in dict.fromkeys(str(warning.message) for warning in caught):
            self.warning(text)


@dataclass
class JsonOutput(Output):
    """The same for a command with `--json` and without `--quiet`."""

    quiet: bool = field(default=False, init=False)


@dataclass
class MessageOutput(Output):
    """The same for a command with `--quiet` and without `--json`."""

    json_mode: bool = field(default=False, init=False)


@dataclass
class DocumentOutput(JsonOutput):
    """The same for a command whose result is a document about inputs."""

    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False


def _least(width: int) -> int:
    """Return the width below which the first column of a table is not folded."""
    return min(width, 24)


def _parts(widths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Yield first and last column of the tables into which one is cut, the first column left out.

    Args:
        widths: Of the columns, the first among them.
        room: Of the terminal.
    """
    start, used = 1, _least(widths[0]) + _GAP
    for column in range(1, len(widths)):
        needed = widths[column] + _GAP
        if column > start and used + needed > room:
            yield start, column
            start, used = column, _least(widths[0]) + _GAP
        used += needed
    yield start, len(widths)


def _table(title: str, cells: Sequence[Sequence[str]], room: int) -> "Table":
    """Return a table of rich.

    Args:
        title: What stands above it.
        cells: The headings, then the rows.
        room: Columns of the terminal.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left")
    widths = [max(map(len, column)) for column in zip(*cells[1:], cells[0], strict=True)]
    for index, column in enumerate(cells[0]):
        left = index == 0
        entries = max((len(row[index]) for row in cells[1:]), default=0)
        table.add_column(
            Text(column),
            justify="left" if left else "right",
            no_wrap=not left and _least(widths[0]) + widths[index] + 2 * _GAP <= room,
            min_width=min(8, _least(widths[0])) if left else entries,
            overflow="fold",
        )
    for row in cells[1:]:
        table.add_row(*map(Text, row))
    return table


_EVERY = 10.0
"""Seconds between two lines about a transfer."""


@contextmanager
def transfer_progress(out: Output) -> "Iterator[TransferBar | TransferLines]":
    """Yield who watches the transfers of a command: a `zoo.transfer.remote.Progress`.

    On a terminal a bar with rate and time left; elsewhere a line when a file begins, every ten
    seconds and when it is complete. Under `--quiet` and `--json` nothing.
    """
    console = out.console()
    if out.quiet or out.json_mode or not console.is_terminal or console.is_dumb_terminal:
        yield TransferLines(out)
        return
    bar = TransferBar(out)
    try:
        yield bar
    finally:
        bar.finish()


class TransferBar:
    """A bar for the file that is on its way; what is said stands above it.

    Args:
        out: Of the command; its console honours NO_COLOR.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._bar: Progress | None = None

    def start(self, name: str, total: int | None, done: int) -> None:
        """Show a bar, or set the one of this file back to `done` bytes."""
        from rich import progress

        if self._bar is None:
            self._bar = self._out.bars(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
                transient=False,
            )
            self._bar.start()
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._bar.add_task(name, total=total, completed=done)

    def advance(self, amount: int) -> None:
        """Move it on."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], amount)

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        console = self._out.console() if self._bar is None else self._bar.console
        console.print(message, markup=False, highlight=False)

    def finish(self) -> None:
        """Leave the bar as it stands and go on below it."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


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

    def start(self, name: str, total: int | None, done: int) -> None:
        """Print which file begins and how much of it is here; its total may become known later."""
        now = time.monotonic()
        if (name, total) != (self._name, self._total) and total is not None:
            here = f", {shown_size(done)} of it are here" if done else ""
            self.say(f"{name}: {shown_size(total)}{here}")
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
        line = f"{self._name}: {shown_size(self._done)}"
        if self._total:
            line += f" of {shown_size(self._total)} ({self._done / self._total:.0%})"
        line += f", {shown_size(rate)}/s"
        if self._total and rate > 0:
            line += f", {shown_time((self._total - self._done) / rate)} left"
        self.say(line)

    def say(self, message: str) -> None:
        """Print a line."""
        if not self._silent:
            self._out.info(message)

    def finish(self) -> None:
        """Print that the file is complete, if it is."""
        if self._total is not None and self._done >= self._total:
            seconds = time.monotonic() - self._begin[0]
            self.say(f"{self._name}: complete after {shown_time(seconds)}")
        self._name, self._total = "", None


def shown_size(count: float | None, *, binary: bool = False) -> str:
    """Return a number of bytes as people read it; `?` where nobody knows it.

    Args:
        count: Bytes.
        binary: Whether in KiB, MiB and GiB, as memory is counted.
    """
    if count is None:
        return "?"
    *units, largest = ("B", "KiB", "MiB", "GiB") if binary else ("B", "kB", "MB", "GB")
    for unit in units:
        if count < (1024 if binary else 1000):
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024 if binary else 1000
    return f"{count:.2f} {largest}"


def shown_time(seconds: float) -> str:
    """Return a duration as people read it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
