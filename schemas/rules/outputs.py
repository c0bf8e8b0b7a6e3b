"""Rules about the files and folders that a run writes."""

import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from schemas.fields import Field, marked
from schemas.input import Input
from schemas.marks import Needs, WrittenTo
from schemas.rules.data_folders import exists
from schemas.rules.effect import unmet
from schemas.rules.rule import Fault, rule, warning

RUN_FOLDER = ContextVar("RUN_FOLDER", default=Path())
"""Where the run writes; the folder itself is made if need be. Statistics are not kept there."""
_HDF5 = b"\x89HDF\r\n\x1a\n"


@rule("ZOO354", "what the run writes can be written")
def outputs_can_be_written(config: Input) -> Iterator[Fault]:
    """Demand folders where none is made, and no file in the place of a folder or the reverse."""
    for field, mark in _written(config):
        name, text = str(field.path[-1]), str(field.value)
        if not text or "\0" in text:
            message = f"{name} is empty" if not text else f"{name} has a NUL character in it"
            yield Fault(field.path, message, "give a path, or remove the key for the default")
            continue
        obstacle = _obstacle(text, mark)
        if obstacle is not None:
            hint = f"paths are relative to {_base(mark).absolute()}"
            yield Fault(field.path, f"{name}: {obstacle}", hint)


@rule("ZOO326", "the folders to which the run writes exist")
def output_folders_exist(config: Input) -> Iterator[Fault]:
    """Warn of a folder that will be made: it may be a slip of the pen."""
    for field, mark in _written(config):
        text = str(field.value)
        if mark.kind == "file" or not text or "\0" in text or _obstacle(text, mark) is not None:
            continue
        if mark.kind == "prefix" and config.training.save_dir:
            continue
        path = Path(text)
        folder = path if mark.kind == "folder" and field.given else path.parent
        if folder != Path() and not exists(_base(mark) / folder):
            yield warning(field.path, f"the folder {folder} does not exist; it will be created")


def _written(config: Input) -> Iterator[tuple[Field, WrittenTo]]:
    """Yield the paths to which the run writes, without those of what is off."""
    for field, mark in marked(config, WrittenTo):
        needs = [item for item in field.marks if isinstance(item, Needs)]
        if isinstance(field.value, str) and not any(unmet(field, item) for item in needs):
            yield field, mark


def _obstacle(text: str, mark: WrittenTo) -> str | None:
    """Return why nothing can be written to a path, None if it can."""
    base = _base(mark)
    path = base / text
    folder = path if mark.kind.endswith("folder") else path.parent
    nearest = next((item for item in (folder, *folder.parents) if exists(item)), Path())
    if not nearest.is_dir():
        return f"{nearest} is a file, not a folder"
    if mark.kind == "file":
        if path.is_dir() or text.endswith("/"):
            return f"{text} is a folder, not a file"
        if folder != base and not exists(folder):
            return f"the folder {folder} does not exist"
    if mark.kind == "statistics" and path.is_file() and not _is_hdf5(path):
        return f"{text} is there and is no HDF5 file"
    if not os.access(nearest, os.W_OK | os.X_OK) and not exists(path):
        return f"the folder {nearest} cannot be written to"
    if not mark.kind.endswith("folder") and path.is_file() and not os.access(path, os.W_OK):
        return f"{text} cannot be written to"
    return None


def _base(mark: WrittenTo) -> Path:
    return Path() if mark.kind == "statistics" else RUN_FOLDER.get()


def _is_hdf5(path: Path) -> bool:
    """Return whether a file begins as HDF5; one that cannot be read counts as right."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_HDF5)) == _HDF5
    except OSError:
        return True


@rule("ZOO355", "what the run writes goes to files of their own")
def outputs_are_distinct(config: Input) -> Iterator[Fault]:
    """Refuse two outputs in one file."""
    seen: dict[str, Field] = {}
    for field, mark in _written(config):
        if mark.kind not in ("file", "statistics") or not field.value:
            continue
        place = os.path.normpath(field.value)
        first = seen.setdefault(place, field)
        if first is not field:
            message = f"{field.path[-1]} and {first.path[-1]} are the same file, {field.value}"
            related = (("the other one", first.path),)
            yield Fault(field.path, message, "give each a file of its own", related_paths=related)
