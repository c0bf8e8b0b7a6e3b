"""`zoo cache` and `zoo verify`: the models' files on this machine."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from cli.catalog import models_of_all_registries
from cli.options import Document, model_argument, with_suffix
from cli.output import JsonOutput, shown_size
from schemas.base import environment
from schemas.base.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.known_models import KnownModels
    from zoo.local_copies import Checked


_DAY = 86400.0


def list_cache(out: JsonOutput) -> Document:
    """List the files of the cache, the one used last first, and registered models in hub caches."""
    from zoo.cache import Store
    from zoo.known_models import known_models

    store, models = Store(), known_models()
    names = _names(models)
    entries: list[dict[str, Any]] = [
        {
            "path": file.path,
            "cache": "zoo",
            "model": names.get(file.sha256),
            "sha256": file.sha256,
            "size": file.size,
            "days_unused": max(0.0, round((time.time() - file.used) / _DAY, 1)),
        }
        for file in store.entries()
    ]
    unknown = {"sha256": None, "days_unused": None}
    entries += [
        {"path": path, "cache": cache, "model": name, "size": path.stat().st_size} | unknown
        for name, cache, path in _in_hub_caches(models)
    ]
    total = sum(entry["size"] for entry in entries)
    if not entries:
        out.text(f"nothing is cached ({store.root})")
    else:
        rows = [
            [
                entry["model"] or entry["path"].name,
                (entry["sha256"] or "")[:12],
                shown_size(entry["size"]),
                "" if entry["days_unused"] is None else f"{entry['days_unused']:.0f} days ago",
                entry["cache"],
            ]
            for entry in entries
        ]
        out.plain_table(("file", "SHA-256", "size", "used", "cache"), rows)
        out.info(f"{shown_size(total)} in all; {store.root}")
    return {"ok": True, "root": store.root, "size": total, "files": entries}


def prune(
    *,
    older_than: Annotated[
        float | None,
        Option(
            "--older-than", metavar="DAYS", min=0, help="Also whole files not used for that long."
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would go.")] = False,
    out: JsonOutput,
) -> Document:
    """Remove partial files that nobody writes any more; with --older-than also unused files."""
    from zoo.cache import Store

    age = None if older_than is None else older_than * _DAY
    done = Store().prune(older_than=age, dry_run=dry_run)
    for path in done.paths:
        out.text(str(path))
    out.text(f"{shown_size(done.freed)} {'would be freed' if dry_run else 'freed'}")
    return {
        "ok": True,
        "dry_run": dry_run,
        "paths": done.paths,
        "freed": done.freed,
    }


def rm(
    *,
    what: Annotated[
        list[str],
        model_argument(
            "Models, or hashes (their first digits) as `zoo cache list` shows them.",
            metavar="MODEL|SHA256...",
        ),
    ],
    forget: Annotated[
        bool,
        Option(
            "--forget", help="Trust whatever the addresses deliver next, where no hash is known."
        ),
    ] = False,
    out: JsonOutput,
) -> Document:
    """Remove files from the cache of zoo.

    Example: zoo cache rm DPA2_medium
    """
    from zoo.cache import Store

    store = Store()
    removed = [_sha256_of(text, forget=forget) for text in what]
    freed = sum(map(store.remove, removed))
    forgotten = [url for sha256 in removed if forget for url in store.forget(sha256)]
    out.text(f"{shown_size(freed)} freed")
    for url in forgotten:
        out.text(f"trusted anew at the next download: {url}")
    return {"ok": True, "removed": removed, "freed": freed, "forgotten": forgotten}


def path(out: JsonOutput) -> Document:
    """Print where the cache is; ZOO_CACHE moves it."""
    caches = {"zoo": environment.cache_folder()} | _hub_caches()
    out.text(str(caches["zoo"]))
    return {"ok": True} | caches


def _names(models: "KnownModels") -> dict[str, str]:
    """Return the references of registered models by the hash under which the cache keeps them."""
    from zoo.local_copies import local_file

    found: dict[str, str] = {}
    for known in models.models:
        sha256 = known.model.file.sha256
        if sha256 is None:
            local = local_file(known.place)
            sha256 = local.path.parent.name if local else ""
        found.setdefault(sha256, known.model.reference)
    return found


def _hub_caches() -> dict[str, Path]:
    return {
        "huggingface": environment.huggingface_cache(),
        "modelscope": environment.modelscope_cache(),
    }


def _in_hub_caches(models: "KnownModels") -> list[tuple[str, str, Path]]:
    from zoo.local_copies import local_file

    found = []
    for known in models.models:
        local = local_file(known.place)
        for cache, folder in _hub_caches().items():
            if local is not None and local.path.is_relative_to(folder):
                found.append((known.model.reference, cache, local.path))
    return found


def _sha256_of(text: str, *, forget: bool) -> str:
    """Return the hash that a person means by a model's name, or by the first digits of the hash.

    Raises:
        RegistryError: When the cache does not have it; says where it is instead.
    """
    from zoo.cache import Store
    from zoo.local_copies import local_file
    from zoo.resolve import located

    digits = text.lower()
    if len(digits) >= 6 and set(digits) <= set("0123456789abcdef"):
        hashes = {entry.sha256 for entry in Store().entries() if entry.sha256.startswith(digits)}
        if len(hashes) == 1:
            return hashes.pop()
        if len(digits) == 64 and forget:
            return digits  # removed before; only the trust is left
        number = "no file" if not hashes else f"{len(hashes)} files"
        raise RegistryError(
            f"{number} of the cache have a hash that begins with {text}",
            hint="`zoo cache list` shows them",
        )
    place = located(text)
    local = local_file(place)
    if local is None:
        raise RegistryError(
            f"{text} is not in the cache", hint="`zoo cache list` shows what is there"
        )
    if not local.path.is_relative_to(Store().root):
        raise RegistryError(
            f"{text} is not in the cache of zoo: {local.path}", hint=_elsewhere(local.path)
        )
    return local.path.parent.name


def _elsewhere(place: Path) -> str:
    caches = _hub_caches()
    if place.is_relative_to(caches["huggingface"]):
        kind, *names = place.relative_to(caches["huggingface"]).parts[0].split("--")
        return f"that cache is shared: hf cache rm {kind.removesuffix('s')}/{'/'.join(names)}"
    if place.is_relative_to(caches["modelscope"]):
        return "that cache is shared with other programs; delete the file there"
    return "it does not come from a download"


def verify(
    *,
    models: Annotated[
        list[str] | None,
        model_argument(
            "Names or files; without any, all models on this machine.", metavar="[MODEL|FILE]..."
        ),
    ] = None,
    out: JsonOutput,
) -> Document:
    """Hash files again, and compare with the registries and with what first came.

    The exit code is 1 if a file is damaged or was superseded.

    Example: zoo verify DPA-2.4-7M dpa-2.4-7M.pt
    """
    checked = []
    for one in _checked(models or [], models_of_all_registries(out)):
        checked.append(one)
        name = f" ({one.model})" if one.model else ""
        out.text(f"{one.verdict}: {one.path}{name}")
        if one.detail:
            out.text(f"  {one.detail}")
        if not one.is_good or one.verdict == "unknown":
            out.text(f"  SHA-256 {one.sha256}")
    good = all(one.is_good for one in checked)
    if not checked:
        out.text("no model is on this machine")
    return {"ok": good, "files": [asdict(one) for one in checked]}


def _checked(references: list[str], models: "KnownModels") -> "Iterator[Checked]":
    from zoo.local_copies import check_everything, check_file, check_located
    from zoo.resolve import LocalPath, located, parse_reference

    if not references:
        yield from check_everything(models)
    for text in references:
        reference = parse_reference(text)
        if isinstance(reference, LocalPath):
            yield check_file(with_suffix(reference.path), models)
        else:
            yield check_located(located(reference), text)
