"""`zoo cache` and `zoo verify`: the models' files on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json, complete_model
from cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.known_models import KnownModels
    from zoo.local_copies import Checked


_DAY = 86400.0
_app = typer.Typer(
    no_args_is_help=True,
    help="What downloads left on this machine. Files from plain addresses are in the cache of zoo; "
    "those of Hugging Face and ModelScope are in the caches that these share with other programs.",
)


@_app.command(name="list")
def list_cache(as_json: Json = False) -> None:
    """List the files of the cache, the one used last first, and registered models in hub caches."""
    import time

    from cli.catalog import shown_size
    from zoo.cache import Store
    from zoo.known_models import known_models

    out = Output(json_mode=as_json)
    store, models = Store(), known_models()
    names = _names(models)
    entries: list[dict[str, Any]] = [
        {
            "path": str(entry.path),
            "cache": "zoo",
            "model": names.get(entry.sha256),
            "sha256": entry.sha256,
            "size": entry.size,
            "days_unused": max(0.0, round((time.time() - entry.used) / _DAY, 1)),
        }
        for entry in store.entries()
    ]
    entries += [
        {
            "path": str(path),
            "cache": cache,
            "model": name,
            "sha256": None,
            "size": path.stat().st_size,
            "days_unused": None,
        }
        for name, cache, path in _in_hub_caches(models)
    ]
    total = sum(entry["size"] for entry in entries)
    out.result({"ok": True, "root": str(store.root), "size": total, "files": entries})
    if not entries:
        out.text(f"nothing is cached ({store.root})")
        return
    rows = [
        [
            entry["model"] or entry["path"].rpartition("/")[2],
            (entry["sha256"] or "")[:12],
            shown_size(entry["size"]),
            "" if entry["days_unused"] is None else f"{entry['days_unused']:.0f} days ago",
            entry["cache"],
        ]
        for entry in entries
    ]
    out.plain_table(("file", "SHA-256", "size", "used", "cache"), rows)
    out.info(f"{shown_size(total)} in all; {store.root}")


@_app.command()
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", metavar="DAYS", min=0, help="Also whole files not used for that long."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Remove partial files that nobody writes any more; with --older-than also unused files."""
    from cli.catalog import shown_size
    from zoo.cache import Store

    out = Output(json_mode=as_json)
    age = None if older_than is None else older_than * _DAY
    done = Store().prune(older_than=age, dry_run=dry_run)
    out.result(
        {
            "ok": True,
            "dry_run": dry_run,
            "paths": [str(path) for path in done.paths],
            "freed": done.freed,
        }
    )
    for path in done.paths:
        out.text(str(path))
    out.text(f"{shown_size(done.freed)} {'would be freed' if dry_run else 'freed'}")


@_app.command()
def rm(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|SHA256...",
            help="Models, or hashes (their first digits) as `zoo cache list` shows them.",
            autocompletion=complete_model,
        ),
    ],
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="Trust whatever the addresses deliver next, where no hash is known."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove files from the cache of zoo.

    Example: zoo cache rm DPA2_medium
    """
    from cli.catalog import shown_size
    from zoo.cache import Store

    out = Output(json_mode=as_json)
    store = Store()
    freed, removed, forgotten = 0, [], []
    for sha256 in [_sha256_of(text, forget=forget) for text in what]:
        freed += store.remove(sha256)
        removed.append(sha256)
        if forget:
            forgotten += store.forget(sha256)
    out.result({"ok": True, "removed": removed, "freed": freed, "forgotten": forgotten})
    out.text(f"{shown_size(freed)} freed")
    for url in forgotten:
        out.text(f"trusted anew at the next download: {url}")


@_app.command()
def path(as_json: Json = False) -> None:
    """Print where the cache is; ZOO_CACHE moves it."""
    from schemas.base import environment

    out = Output(json_mode=as_json)
    caches = {
        "zoo": str(environment.cache_folder()),
        "huggingface": str(environment.huggingface_cache()),
        "modelscope": str(environment.modelscope_cache()),
    }
    out.result({"ok": True} | caches)
    out.text(caches["zoo"])


def _names(models: "KnownModels") -> dict[str, str]:
    """Return the references of registered models by the hash under which the cache keeps them."""
    from zoo.local_copies import local_copy

    found: dict[str, str] = {}
    for known in models.models:
        sha256 = known.model.file.sha256
        if sha256 is None:
            local = local_copy(known)
            sha256 = local.path.parent.name if local else ""
        found.setdefault(sha256, known.model.reference)
    return found


def _in_hub_caches(models: "KnownModels") -> "list[tuple[str, str, Path]]":
    from schemas.base import environment
    from zoo.local_copies import local_copy

    caches = {
        "huggingface": environment.huggingface_cache(),
        "modelscope": environment.modelscope_cache(),
    }
    found = []
    for known in models.models:
        local = local_copy(known)
        for cache, folder in caches.items():
            if local is not None and local.path.is_relative_to(folder):
                found.append((known.model.reference, cache, local.path))
    return found


def _sha256_of(text: str, *, forget: bool) -> str:
    """Return the hash that a person means by a model's name, or by the first digits of the hash.

    Raises:
        RegistryError: When the cache does not have it; says where it is instead.
    """
    from schemas.base.errors import RegistryError
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
    local = local_file(place.file, place.base)
    if local is None:
        raise RegistryError(
            f"{text} is not in the cache", hint="`zoo cache list` shows what is there"
        )
    if not local.path.is_relative_to(Store().root):
        raise RegistryError(
            f"{text} is not in the cache of zoo: {local.path}", hint=_elsewhere(local.path)
        )
    return local.path.parent.name


def _elsewhere(place: "Path") -> str:
    from schemas.base import environment

    if place.is_relative_to(environment.huggingface_cache()):
        repo = place.relative_to(environment.huggingface_cache()).parts[0]
        kind, *names = repo.split("--")
        return f"that cache is shared: hf cache rm {kind.removesuffix('s')}/{'/'.join(names)}"
    if place.is_relative_to(environment.modelscope_cache()):
        return "that cache is shared with other programs; delete the file there"
    return "it does not come from a download"


def register_cache(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(_app, name="cache")


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL|FILE]...",
            help="Names or files; without any, all models on this machine.",
            autocompletion=complete_model,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hash files again, and compare with the registries and with what first came.

    The exit code is 1 if a file is damaged or was superseded.

    Example: zoo verify DPA-2.4-7M dpa-2.4-7M.pt
    """
    from zoo.known_models import known_models

    out = Output(json_mode=as_json)
    everything = known_models()
    for fault in everything.faults:
        out.warning(fault.message)
    checked = []
    for one in _checked(models or [], everything):
        checked.append(one)
        name = f" ({one.model})" if one.model else ""
        out.text(f"{one.verdict}: {one.path}{name}")
        if one.detail:
            out.text(f"  {one.detail}")
        if not one.is_good or one.verdict == "unknown":
            out.text(f"  SHA-256 {one.sha256}")
    good = all(one.is_good for one in checked)
    out.result({"ok": good, "files": [_document(one) for one in checked]})
    if not checked:
        out.text("no model is on this machine")
    if not good:
        raise typer.Exit(1)


def _checked(references: list[str], models: "KnownModels") -> "Iterator[Checked]":
    from zoo.local_copies import check_everything, check_file, check_located
    from zoo.reference import LocalPath, parse_reference
    from zoo.resolve import located

    if not references:
        yield from check_everything(models)
    for text in references:
        reference = parse_reference(text)
        if isinstance(reference, LocalPath):
            path = reference.path
            yield check_file(path if path.exists() else _with_suffix(path), models)
        else:
            yield check_located(located(reference), text)


def _document(checked: "Checked") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(checked) | {"path": str(checked.path)}


def _with_suffix(path: Path) -> Path:
    other = path.parent / f"{path.name}.pt"
    return other if other.exists() else path


def register_verify(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(verify)
