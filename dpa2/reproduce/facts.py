"""What decides the outcome of a run, read from the files; no torch."""

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from dpa2.data.fingerprint import fingerprint
from dpa2.data.systems import open_systems
from schemas.data import DataSection
from schemas.digest import file_sha256
from schemas.errors import CheckpointError
from schemas.input import Input
from schemas.lock import LockedData, LockedInput, canonical_sha256
from schemas.multitask import MultiTaskInput
from schemas.normalize import normalized

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
    return [
        _fingerprint(place, section, root)
        for place, section in _sections(config)
        for root in ([section.systems] if isinstance(section.systems, str) else section.systems)
    ]


def _sections(config: Input | MultiTaskInput) -> Iterator[tuple[str, DataSection]]:
    if isinstance(config, MultiTaskInput):
        branches = {
            f"training.data_dict.{name}": data for name, data in config.training.data_dict.items()
        }
    else:
        branches = {"training": config.training}
    for place, data in branches.items():
        yield f"{place}.training_data", data.training_data
        if data.validation_data is not None:
            yield f"{place}.validation_data", data.validation_data


def _fingerprint(place: str, section: DataSection, root: str) -> LockedData:
    systems = open_systems(root, None, section.rglob_patterns)
    return LockedData(
        section=place,
        path=root,
        systems=len(systems),
        frames=sum(system.num_frames for system in systems),
        sha256=fingerprint(systems),
    )
