"""What a command shows while it works."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cli.output import Output


@contextmanager
def progress_bar(out: Output, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr where that is a terminal; yields what to call with the progress made."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = out.console()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    hidden = out.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=total)
        yield lambda made: progress.advance(task, made)


@contextmanager
def shown_warnings(out: Output) -> Iterator[None]:
    """Print Python warnings as one line each, after the block and each text once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        out.warning(text)
