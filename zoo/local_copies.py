"""Where a model's file is on this machine already; a look at folders, no network, no hash.

The hubs' own clients take a quarter of a second to import; where they keep a file is documented,
and this is all that is needed to say that one is there. Fetching goes through the clients.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas import environment
from schemas.registry import (
    BundledSource,
    FileSource,
    HuggingFaceSource,
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
    for source in known.model.file.sources:
        path = _place(source, known.base)
        if path is not None and path.is_file():
            kind = {"bundled": "bundled", "file": "local"}.get(source.kind, "cached")
            return LocalCopy(path, kind)  # type: ignore[arg-type]
    return None


def _place(source: Source, base: str | Path) -> Path | None:
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
