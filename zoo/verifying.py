"""Whether files on this machine are what registries say, or what they were when they came."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.checkpoint.archive import check_contents, read_directory
from schemas.checkpoint.other_formats import other_format
from schemas.checkpoint.random_access import LocalFile
from schemas.digest import file_sha256
from schemas.errors import CheckpointError, DamagedError, RegistryError
from schemas.registry import ModelFile
from zoo.known_models import KnownModels
from zoo.local_copies import local_copy, local_file
from zoo.resolve import Located

_PROGRAMS = frozenset({".pth", ".pt2", ".pte"})

Verdict = Literal["right", "first use", "unknown", "damaged", "superseded"]
"""`right`: the hash of a registry, or the one under which the cache keeps it. `first use`: no
registry has a hash, it is what came first. `unknown`: no registry has this file."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was hashed.

    Args:
        path: The file.
        model: Reference of the model that it is or should be; None where none has it.
        sha256: Of its content.
        verdict: What came out.
        detail: More about it; what to do, where something is wrong.
    """

    path: Path
    model: str | None
    sha256: str
    verdict: Verdict
    detail: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it may be used."""
        return self.verdict not in {"damaged", "superseded"}


def check_located(place: Located, reference: str) -> Checked:
    """Hash a file again that a name or an address means.

    Args:
        place: The file, and where it could be fetched.
        reference: What messages call it.

    Raises:
        RegistryError: When it is not on this machine.
    """
    local = local_file(place.file, place.base)
    if local is None:
        raise RegistryError(
            f"{reference} is not on this machine", hint=f"fetch it: zoo pull {reference}"
        )
    return _compared(local.path, place.file, reference)


def check_file(path: Path, models: KnownModels) -> Checked:
    """Hash a file and look for its hash in the registries.

    Raises:
        OSError: When it cannot be read.
    """
    sha256 = file_sha256(path)
    for known in models.models:
        file = known.model.file
        if sha256 == file.sha256:
            return Checked(path, known.model.reference, sha256, "right")
        for old in file.superseded:
            if sha256 == old.sha256:
                return _superseded(path, known.model.reference, sha256, old.reason)
    damage = _damage(path)
    if damage:
        return Checked(path, None, sha256, "damaged", damage)
    return Checked(path, None, sha256, "unknown", "no registry has this file")


def check_everything(models: KnownModels) -> Iterator[Checked]:
    """Hash every model of a registry that is on this machine, and every file of the cache."""
    from zoo.store import Store

    seen: set[Path] = set()
    for known in models.models:
        local = local_copy(known)
        if local is not None and local.path.resolve() not in seen:
            seen.add(local.path.resolve())
            yield _compared(local.path, known.model.file, known.model.reference)
    store = Store()
    damaged = {entry.path for entry in store.verify()}
    for entry in store.entries():
        if entry.path.resolve() not in seen and entry.path in damaged:
            yield Checked(entry.path, None, file_sha256(entry.path), "damaged", _REMOVE)
        elif entry.path.resolve() not in seen:
            yield Checked(entry.path, None, entry.sha256, "right")


_REMOVE = "its content is not what its place in the cache says; the next use fetches it again"


def _compared(path: Path, file: ModelFile, reference: str) -> Checked:
    sha256 = file_sha256(path)
    for old in file.superseded:
        if sha256 == old.sha256:
            return _superseded(path, reference, sha256, old.reason)
    expected = file.sha256 or _kept_as(path)
    if expected is None:
        return Checked(path, reference, sha256, "first use", "its hash was never published")
    if sha256 != expected:
        return Checked(
            path,
            reference,
            sha256,
            "damaged",
            f"{expected} expected; delete it and fetch it again: zoo pull {reference}",
        )
    if file.sha256 is None:
        return Checked(path, reference, sha256, "first use", "as it first came")
    return Checked(path, reference, sha256, "right")


def _superseded(path: Path, reference: str, sha256: str, reason: str) -> Checked:
    return Checked(
        path, reference, sha256, "superseded", f"{reason}; the right one: zoo pull {reference}"
    )


def _kept_as(path: Path) -> str | None:
    """Return the hash under which a cache keeps a file, if it is its folder's or blob's name."""
    for name in (path.parent.name, path.resolve().name):
        if len(name) == 64 and set(name) <= set("0123456789abcdef"):
            return name
    return None


def _damage(path: Path) -> str:
    """Return what is wrong with a checkpoint's own checksums; nothing for files of other kinds."""
    with LocalFile(path) as source:
        beginning, is_pytorch = source.read_at(0, 512), path.suffix in {".pt", ".pth"}
        if not beginning.startswith(b"PK\x03\x04"):
            other = other_format(path.name, source.size, beginning)
            return other.message if is_pytorch else ""
        try:
            entries = read_directory(source, program=path.suffix.lower() in _PROGRAMS)
        except DamagedError as error:
            return error.message if is_pytorch else ""
        except CheckpointError:
            return ""  # not PyTorch's; whatever it would unfold to is left folded
        try:
            check_contents(source, entries.values())
        except DamagedError as error:
            return error.message
    return ""
