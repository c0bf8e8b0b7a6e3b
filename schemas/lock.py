"""The lock file of a run: everything that decides what comes out of it."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.base.errors import ConfigError

LOCK_FILE = "zoo.lock"
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class LockedInput(_Entry):
    """The input of the run."""

    path: str
    """Its file, as on the command line."""
    sha256: _Sha256
    """Of the canonical content: comments, spelling and defaults do not change it."""
    content: dict[str, Any]
    """The normalised input."""


class LockedModel(_Entry):
    """The model that the run starts from."""

    reference: str
    """As on the command line: a name or a path."""
    branch: str | None
    """As on the command line."""
    sha256: _Sha256
    """Of its file."""


class LockedData(_Entry):
    """One entry of `systems`."""

    section: str
    """JSON path of the data section."""
    path: str
    """The entry."""
    systems: int
    """Systems below it."""
    frames: int
    """Frames in them."""
    sha256: _Sha256
    """Of their files."""


class LockedResult(_Entry):
    """What came out."""

    path: str
    """The checkpoint."""
    sha256: _Sha256
    """Of its file."""


class Lock(_Entry):
    """Everything that decides what comes out of a run."""

    version: Literal[1] = 1
    """Of the format."""
    command: list[str]
    """The arguments of `zoo`."""
    made_with: dict[str, str]
    """Versions of what computes, the processor's kind, and the number of threads."""
    input: LockedInput
    """The input."""
    seeds: dict[str, int | list[int] | None]
    """Every seed, by its JSON path; null where the run draws its own."""
    model: LockedModel | None = None
    """The model that it starts from."""
    data: list[LockedData]
    """The data."""
    result: LockedResult | None = None
    """The checkpoint that came out, if it was named."""


def canonical_sha256(document: Any) -> str:
    """Return the SHA-256 of a JSON document: the same for any order of keys and any spacing."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_lock(path: Path) -> Lock:
    """Read a lock file.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        return Lock.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="write one with: zoo lock train INPUT",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top level"
        raise ConfigError(
            f"{path} is no lock file: {first['msg']} at {place}",
            hint="write one with: zoo lock train INPUT",
        ) from error
