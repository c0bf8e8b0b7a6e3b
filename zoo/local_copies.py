"""Model files on this machine: where they are, and whether their content is right.

The hubs' own clients and the HTTP client take a quarter of a second to import. Where they keep a
file is known, and this is all that is needed to say that one is there; fetching goes through them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from schemas.base import environment
from schemas.base.errors import CheckpointError, DamagedError, RegistryError
from schemas.base.foreign_files import other_format
from schemas.base.writing import file_sha256
from schemas.checkpoint.archive import LocalFile, check_contents, read_directory
from schemas.registry import (
    AisSquareSource,
    BundledSource,
    FileSource,
    HttpsSource,
    HuggingFaceSource,
    ModelFile,
    ModelScopeSource,
    Source,
)
from zoo.cache import Store
from zoo.known_models import KnownModels, Located
from zoo.registry import PACKAGE, replaced
from zoo.transfer.remote import Download

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PROGRAMS = frozenset({".pth", ".pt2", ".pte"})
_REMOVE = "its content is not what its place in the cache says; the next use fetches it again"

Verdict = Literal["right", "first use", "unknown", "damaged", "superseded"]
"""`right`: the hash of a registry, or the one under which the cache keeps it. `first use`: no
registry has a hash, it is what came first. `unknown`: no registry has this file."""


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A model's file on this machine; its content has not been looked at.

    Args:
        path: The file.
        where: With the program, beside its registry, or in a cache.
    """

    path: Path
    where: Literal["bundled", "local", "cached"]


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


def local_file(place: Located) -> LocalCopy | None:
    """Return where a file is on this machine; None if it would have to be fetched."""
    for source in place.file.sources:
        path = place_of(source, place.base)
        if path is not None and path.is_file():
            where = {"bundled": "bundled", "file": "local"}.get(source.kind, "cached")
            return LocalCopy(path, where)  # type: ignore[arg-type]
    store, sha256 = Store(), place.file.sha256
    if sha256 is None and (first := store.first_use(_urls(place))):
        sha256 = first.sha256
    found = store.files(sha256) if sha256 else []
    return LocalCopy(found[0], "cached") if found else None


def shipped_file(place: Located) -> Download | None:
    """Return a file that comes with the program or lies beside its registry; None for any other.

    Raises:
        RegistryError: When it is missing, or another file.
    """
    for source in place.file.sources:
        path = place_of(source, place.base)
        if path is not None and isinstance(source, BundledSource | FileSource):
            ours = isinstance(source, BundledSource)
            hint = "install dpa-zoo again" if ours else "copy the bundle again"
            try:
                found = file_sha256(path)
            except OSError as error:
                reason = error.strerror or error
                raise RegistryError(f"{path} cannot be read: {reason}", hint=hint) from error
            fault = wrong_content(place.file, found)
            if fault is not None:
                raise RegistryError(
                    f"{path} is not the file that its registry names: {fault}", hint=hint
                )
            return Download.here(path, found, "the program" if ours else "this machine")
    return None


def wrong_content(file: ModelFile, sha256: str) -> str | None:
    """Return why content with this hash is not that of a file; None where it may be."""
    reason = replaced(file, sha256)
    if reason is not None:
        return f"it was replaced: {reason} ({sha256})"
    if file.sha256 not in (None, sha256):
        return f"SHA-256 {sha256}, {file.sha256} expected"
    return None


def place_of(source: Source, base: str | Path | None) -> Path | None:
    """Return where the file of a source would be on this machine; None for a plain address."""
    match source:
        case BundledSource():
            return PACKAGE / source.path
        case FileSource() if isinstance(base, Path):
            return base / source.path
        case HuggingFaceSource():
            folder = environment.huggingface_cache() / f"models--{source.repo.replace('/', '--')}"
            commit = source.revision
            if not _COMMIT.fullmatch(commit):
                try:
                    commit = (folder / "refs" / commit).read_text(encoding="utf-8").strip()
                except OSError:
                    return None
            return folder / "snapshots" / commit / source.path
        case ModelScopeSource():
            folder = environment.modelscope_cache() / "models" / source.repo.replace("/", "--")
            return folder / "snapshots" / source.revision / source.path
    return None


def check_located(place: Located, reference: str) -> Checked:
    """Hash a file again that a name or an address means.

    Args:
        place: The file, and where it could be fetched.
        reference: What messages call it.

    Raises:
        RegistryError: When it is not on this machine.
    """
    local = local_file(place)
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
        file, reference = known.model.file, known.model.reference
        if sha256 == file.sha256:
            return Checked(path, reference, sha256, "right")
        if (reason := replaced(file, sha256)) is not None:
            return _superseded(path, reference, sha256, reason)
    damage = _damage(path)
    if damage:
        return Checked(path, None, sha256, "damaged", damage)
    return Checked(path, None, sha256, "unknown", "no registry has this file")


def check_everything(models: KnownModels) -> Iterator[Checked]:
    """Hash every model of a registry that is on this machine, and every file of the cache."""
    seen: set[Path] = set()
    for known in models.models:
        local = local_file(known.place)
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


def _urls(place: Located) -> Iterator[str]:
    for source in place.file.sources:
        if isinstance(source, AisSquareSource | HttpsSource):
            yield source.url
        elif isinstance(source, FileSource) and isinstance(place.base, str):
            yield beside(place.base, source.path)


def beside(base: str, path: str) -> str:
    """Return the address of a file beside a registry at an address."""
    return f"{base.rstrip('/')}/{quote(path)}"


def _compared(path: Path, file: ModelFile, reference: str) -> Checked:
    sha256 = file_sha256(path)
    reason = replaced(file, sha256)
    if reason is not None:
        return _superseded(path, reference, sha256, reason)
    expected = file.sha256 or _kept_as(path)
    verdict: Verdict = "right" if file.sha256 else "first use"
    detail = "" if file.sha256 else "as it first came"
    if expected is None:
        detail = "its hash was never published"
    elif sha256 != expected:
        verdict = "damaged"
        detail = f"{expected} expected; delete it and fetch it again: zoo pull {reference}"
    return Checked(path, reference, sha256, verdict, detail)


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
