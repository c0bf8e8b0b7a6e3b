"""Files of structures, written, and read as commands do it."""

from pathlib import Path
from typing import Any

from dpa2.data.structures.reader import read_structures
from dpa2.data.structures.structure import Reading, Structure


def read(path: str | Path, **options: Any) -> tuple[list[Structure], Reading]:
    """Return the structures of a file, and what a person should know of the reading."""
    reading = Reading(str(path), **options)
    return list(read_structures(reading)), reading


def read_text(path: Path, text: str, **options: Any) -> tuple[list[Structure], Reading]:
    """Write a text, and return the same of it."""
    path.write_text(text)
    return read(path, **options)
