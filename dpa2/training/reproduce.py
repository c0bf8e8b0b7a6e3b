"""What decides the outcome of a run, and where a run done now would differ from a locked one."""

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from dpa2.data.system import fingerprint
from dpa2.data.systems import open_systems
from schemas.base.errors import CheckpointError
from schemas.base.writing import file_sha256
from schemas.input.root import Input, MultiTaskInput, normalized
from schemas.input.training import DataSection
from schemas.lock import Lock, LockedData, LockedInput, canonical_sha256

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


def locked_input(path: str, config: Input | MultiTaskInput) -> LockedInput:
    """Return the canonical content of an input."""
    content = normalized(config)
    return LockedInput(path=path, sha256=canonical_sha256(content), content=content)


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


def locked_data(config: Input | MultiTaskInput) -> list[LockedData]:
    """Return the fingerprint of every entry of `systems`.

    Raises:
        DataError: Data are missing or faulty.
    """
    found = []
    for place, section in _sections(config):
        for root in [section.systems] if isinstance(section.systems, str) else section.systems:
            systems = open_systems(root, None, section.rglob_patterns)
            frames = sum(system.num_frames for system in systems)
            mark = fingerprint(systems)
            found.append(
                LockedData(
                    section=place, path=root, systems=len(systems), frames=frames, sha256=mark
                )
            )
    return found


def _sections(config: Input | MultiTaskInput) -> Iterator[tuple[str, DataSection]]:
    several = isinstance(config, MultiTaskInput)
    for name, branch in config.branches.items():
        place = f"training.data_dict.{name}" if several else "training"
        yield f"{place}.training_data", branch.data.training_data
        if branch.data.validation_data is not None:
            yield f"{place}.validation_data", branch.data.validation_data


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
