"""Frames of text files: what can be cut out of them though the rest is damaged."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file as it comes: any line ends, a byte order mark, bytes that are no UTF-8."""
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        yield stream


def with_word(line: str, column: int, word: str) -> str:
    """Return a line of words with one of them replaced."""
    words = line.split()
    words[column] = word
    return " ".join(words) + "\n"


def column_of(lines: Sequence[str], column: int) -> list[str]:
    """Return one word of each line; empty where a line is too short."""
    found = []
    for line in lines:
        words = line.split(None, column + 1)
        found.append(words[column] if len(words) > column else "")
    return found


def short_reason(error: BaseException) -> str:
    """Return what an exception of another library says, in one short line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, AssertionError | StopIteration):
        return "a part of it is missing"
    if not text or isinstance(error, KeyError):
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 200 else f"{text[:200]}..."
