"""The lock file of a run: everything that decides what comes out of it, and what has changed."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.base.errors import CheckpointError, ConfigError
from schemas.base.writing import file_sha256

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


_PACKAGES = ("torch", "numpy", "vesin")


def model_sha256(path: Path) -> str:
    """Return the SHA-256 of a model file, hexadecimal.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def versions(program: str) -> dict[str, str]:
    """Return what computes here: versions, the processor's kind, threads; `program` is our own."""
    found = {"zoo": program, "python": platform.python_version()}
    found |= {name: metadata.version(name) for name in _PACKAGES}
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
    return found | {"machine": f"{platform.system()} {platform.machine()}", "threads": threads}


def seeds(document: Any, place: str = "") -> dict[str, Any]:
    """Return every `seed` of a normalised input by its JSON path, and that of the training."""
    found: dict[str, Any] = {"training.seed": None} if not place else {}
    if isinstance(document, dict):
        for key, value in document.items():
            path = f"{place}.{key}" if place else str(key)
            if key == "seed":
                found[path] = value
            else:
                found |= seeds(value, path)
    return found


_ABSENT = "nothing"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it was.

    Attributes:
        what: Part of the lock: `input`, `data`, `model` or `made_with`.
        where: Place within it.
        locked: What the lock says.
        found: What is there now.
        weight: `error`: another run; `warning`: the same run, whose last digits may differ.
    """

    what: str
    where: str
    locked: str
    found: str
    weight: Literal["error", "warning"]


def differences(locked: Lock, now: Lock) -> list[Difference]:
    """Compare a lock with what is there now."""
    found = []
    if locked.input.sha256 != now.input.sha256:
        found += [
            Difference("input", place, old, new, "error")
            for place, old, new in _changes(locked.input.content, now.input.content)
        ]
    found += _data(locked, now)
    if locked.model != now.model:
        old = locked.model.sha256 if locked.model else _ABSENT
        new = now.model.sha256 if now.model else _ABSENT
        where = (locked.model or now.model or locked.input).model_dump().get("reference", "")
        found.append(Difference("model", where, old, new, "error"))
    for name in sorted(locked.made_with.keys() | now.made_with.keys()):
        old, new = locked.made_with.get(name, _ABSENT), now.made_with.get(name, _ABSENT)
        if old != new:
            found.append(Difference("made_with", name, old, new, "warning"))
    return found


def _data(locked: Lock, now: Lock) -> Iterator[Difference]:
    old = {(item.section, item.path): item for item in locked.data}
    new = {(item.section, item.path): item for item in now.data}
    for key in sorted(old.keys() & new.keys()):
        if old[key] != new[key]:
            where = " ".join(key)
            then, here = (
                f"{item.frames} frames, {item.sha256[:12]}" for item in (old[key], new[key])
            )
            yield Difference("data", where, then, here, "error")
    # entries that only one of both has are differences of the input already


def _changes(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the JSON path and both values of everything that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            path = f"{place}.{key}" if place else str(key)
            yield from _changes(old.get(key), new.get(key), path)
    elif old != new:
        yield place, repr(old), repr(new)
