"""`zoo verify`: hash models again and compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.model_names import complete_model
from cli.options import Json
from cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.known_models import KnownModels
    from zoo.verifying import Checked


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
    from zoo.reference import LocalPath, parse_reference
    from zoo.resolve import located
    from zoo.verifying import check_everything, check_file, check_located

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


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(verify)
