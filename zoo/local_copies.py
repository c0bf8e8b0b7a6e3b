"""Where a model's file is on this machine already; a look at folders, no network, no hash.

The hubs' own clients and the HTTP client take a quarter of a second to import. Where they and
`zoo.store` keep a file is known, and this is all that is needed to say that one is there; fetching
goes through them.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from schemas import environment
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
from zoo.known_models import KnownModel
from zoo.registry import PACKAGE

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A model's file on this machine; its content has not been looked at.

    Args:
        path: The file.
        where: With the program, beside its registry, or in a cache.
    """

    path: Path
    where: Literal["bundled", "local", "cached"]


def local_copy(known: KnownModel) -> LocalCopy | None:
    """Return where a model's file is on this machine; None if it would have to be fetched."""
    return local_file(known.model.file, known.base)


def local_file(file: ModelFile, base: str | Path | None) -> LocalCopy | None:
    """Return where a file is on this machine; None if it would have to be fetched.

    Args:
        file: Its hash and sources.
        base: Folder or address to which sources of the kind `file` are relative.
    """
    for source in file.sources:
        path = _place(source, base)
        if path is not None and path.is_file():
            where = {"bundled": "bundled", "file": "local"}.get(source.kind, "cached")
            return LocalCopy(path, where)  # type: ignore[arg-type]
    hashes = [file.sha256] if file.sha256 else [first_use(url) for url in _urls(file, base)]
    for sha256 in filter(None, hashes):
        folder = environment.cache_folder() / "sha256" / sha256[:2] / sha256
        found = [path for path in _files(folder) if not path.name.startswith(".")]
        if found:
            return LocalCopy(found[0], "cached")
    return None


def first_use(url: str) -> str | None:
    """Return the hash of what an address delivered when it was first used; None: it was not."""
    key = hashlib.sha256(url.encode()).hexdigest()[:32]
    path = environment.cache_folder() / "first-use" / f"{key}.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _urls(file: ModelFile, base: str | Path | None) -> Iterator[str]:
    for source in file.sources:
        if isinstance(source, (AisSquareSource, HttpsSource)):
            yield source.url
        elif isinstance(source, FileSource) and isinstance(base, str):
            yield f"{base.rstrip('/')}/{quote(source.path)}"


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _place(source: Source, base: str | Path | None) -> Path | None:
    match source:
        case BundledSource():
            return PACKAGE / source.path
        case FileSource() if isinstance(base, Path):
            return base / source.path
        case HuggingFaceSource():
            return _in_huggingface_cache(source)
        case ModelScopeSource():
            folder = environment.modelscope_cache() / "models" / source.repo.replace("/", "--")
            return folder / "snapshots" / source.revision / source.path
    return None


def _in_huggingface_cache(source: HuggingFaceSource) -> Path | None:
    folder = environment.huggingface_cache() / f"models--{source.repo.replace('/', '--')}"
    commit = source.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / commit).read_text(encoding="utf-8").strip()
        except OSError:
            return None
    return folder / "snapshots" / commit / source.path
