"""Read what a `.pt2` file says about itself, without loading the code in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from dpa2.freeze.pt2_metadata import Build, Metadata
from schemas.checkpoint.archive import ArchiveEntry, content_of, read_directory
from schemas.checkpoint.random_access import LocalFile, RandomAccess
from schemas.errors import CheckpointError

_MOST_BYTES = 64 << 20
_Kind = TypeVar("_Kind", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Package:
    """A `.pt2` file.

    Attributes:
        path: Where it is.
        metadata: For everyone.
        build: What made it; None where deepmd-kit did.
        model_params: The `model` section as JSON, empty where it is not said.
    """

    path: Path
    metadata: Metadata
    build: Build | None
    model_params: str


def read_package(path: Path) -> Package:
    """Return what is said in a file.

    Raises:
        CheckpointError: If it is no such file or is damaged.
    """
    try:
        with LocalFile(path) as source:
            entries = read_directory(source, program=True)
            metadata = _member(source, entries, "metadata.json")
            build = _member(source, entries, "dpa_zoo.json")
            params = _member(source, entries, "model_def_script.json")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a compiled model: {error}",
            hint="the download or the copy was cut short; fetch it again",
        ) from error
    if metadata is None:
        raise CheckpointError(
            f"{path} is an archive, but not of a compiled deep potential",
            hint="give a .pt2 model written by zoo freeze or by dp --pt-expt freeze",
        )
    said = _parsed(Metadata, metadata, path)
    described = None if build is None else _parsed(Build, build, path)
    try:
        section = "" if params is None else params.decode()
        json.loads(section or "{}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} describes itself wrongly: its model section is no JSON",
            hint="the file is damaged; freeze the checkpoint again",
        ) from error
    return Package(path, said, described, section)


def _member(source: RandomAccess, entries: Mapping[str, ArchiveEntry], name: str) -> bytes | None:
    found = [entry for path, entry in entries.items() if path.endswith(f"extra/{name}")]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f"its member {name} is there twice")
    return content_of(source, found[0], _MOST_BYTES)


def _parsed(kind: type[_Kind], text: bytes, path: Path) -> _Kind:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its text"
        raise CheckpointError(
            f"{path} describes itself wrongly: {place}: {first['msg']}",
            hint="the file is damaged or of a newer kind; freeze the checkpoint again",
        ) from error
