"""Read what a `.pt2` file says about itself, without loading the code in it."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from dpa2.freeze.pt2_metadata import Build, Metadata
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
        with zipfile.ZipFile(path) as archive:
            metadata = _member(archive, "metadata.json")
            build = _member(archive, "dpa_zoo.json")
            params = _member(archive, "model_def_script.json")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
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
    return Package(path, said, described, "" if params is None else params.decode())


def _member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    found = [item for item in archive.infolist() if item.filename.endswith(f"extra/{name}")]
    if not found:
        return None
    if len(found) > 1 or found[0].file_size > _MOST_BYTES:
        raise ValueError(f"its member {name} is there twice or too large")
    return archive.read(found[0])


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
