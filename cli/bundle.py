"""`zoo bundle`: models for machines without the outside network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Offline, Quiet
from cli.output import Output

if TYPE_CHECKING:
    from zoo.bundle import BundledModel
    from zoo.transfer.remote import Progress


def bundle(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Names, addresses or checkpoints.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER|FILE.tar", help="Where the bundle goes."),
    ],
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch",
            "--head",
            help="Only this branch of a multi-task model; no more than it needs is fetched.",
        ),
    ] = None,
    offline: Offline = False,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write models, their cards and a registry into a folder or an archive to carry elsewhere.

    There: `zoo registry add FOLDER`, or `zoo serve FOLDER` for a whole network. Models are added
    to a bundle that is in the folder already. The bytes of an archive depend on the models only.

    Example: zoo bundle DPA-2.4-7M my_model.pt -o models.tar
    """
    import tempfile

    from cli.transfer_progress import transfer_progress
    from schemas import environment
    from zoo.bundle import bundle as write

    out = Output(json_mode=json_mode, quiet=quiet)
    offline = offline or environment.is_offline()
    with tempfile.TemporaryDirectory(prefix="zoo-bundle-") as folder:
        with transfer_progress(out) as progress:
            chosen = [
                _find(model, progress, offline=offline)
                if branch is None
                else _find_branch(model, branch, Path(folder), progress, offline=offline)
                for model in models
            ]
        with out.status("writing"):
            made = write(chosen, output)
    out.result(
        {
            "ok": True,
            "bundle": str(made.place),
            "files": made.files,
            "size": made.size,
            "models": [model.model_dump(mode="json") for model in made.models],
        }
    )
    names = ", ".join(model.name for model in made.models)
    out.text(f"{made.place}: {names} ({made.size:,} bytes written)")
    if output.suffix == ".tar":
        out.info(
            f"there: mkdir models && tar -xf {output.name} -C models && zoo registry add models"
        )
    else:
        out.info(f"there: zoo registry add {output}, or for a network: zoo serve {output}")


def _find(reference: str, progress: "Progress", *, offline: bool) -> "BundledModel":
    """Return a model's file, fetched if it is not here, and what its registry says of it."""
    from zoo.bundle import BundledModel
    from zoo.reference import LocalPath, parse_reference
    from zoo.resolve import fetch, located

    parsed = parse_reference(reference)
    if isinstance(parsed, LocalPath):
        return BundledModel(parsed.path)
    place = located(parsed)
    found = fetch(place, progress=progress, offline=offline)
    known = place.known.model if place.known else None
    return BundledModel(found.path, known, origin=reference)


def _find_branch(
    reference: str, branch: str, folder: Path, progress: "Progress", *, offline: bool
) -> "BundledModel":
    """Return a branch of a model; of one that is not here no more is fetched than it needs."""
    from zoo.bundle_branch import branch_of_file, branch_of_place
    from zoo.reference import LocalPath, parse_reference
    from zoo.resolve import located

    parsed = parse_reference(reference)
    if isinstance(parsed, LocalPath):
        return branch_of_file(parsed.path, branch, folder)
    return branch_of_place(
        located(parsed), reference, branch, folder, progress=progress, offline=offline
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(bundle)
