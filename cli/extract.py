"""`zoo extract`: one branch of a multi-task model as a model of its own."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Branch, FileArgument, Json, Quiet
from cli.output import Output


def extract(
    model: FileArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write.")],
    branch: Branch = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a file that is there.")
    ] = False,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a branch as a single-task checkpoint, for this program and for deepmd-kit.

    Example: zoo extract DPA-2.4-7M.pt --branch H2O_H2O_PD -o water.pt
    """
    from zoo.branch_file import extract_branch

    out = Output(json_mode=json_mode, quiet=quiet)
    _refuse_overwriting(output, force=force)
    source = _existing(model)
    with out.status(f"reading {source}"):
        found = extract_branch(source, branch, output)
    num_bytes = output.stat().st_size
    out.result(
        {
            "ok": True,
            "model": str(source),
            "branch": found.branch,
            "output": str(found.path),
            "type_map": found.type_map,
            "num_bytes": num_bytes,
        }
    )
    out.text(
        f"{found.path}: branch {found.branch}, {len(found.type_map)} types, "
        f"{num_bytes / 1e6:.1f} MB"
    )


def _refuse_overwriting(target: Path, *, force: bool) -> None:
    from schemas.errors import CheckpointError

    if target.is_dir():
        raise CheckpointError(f"{target} is a folder", hint="name the file to write")
    if target.exists() and not force:
        raise CheckpointError(
            f"{target} is there already", hint="name another file, or add --force to replace it"
        )


def _existing(path: Path) -> Path:
    """Return the file that a path means; as with `dp`, the suffix `.pt` may be left out."""
    from dpa2.io.diagnose import missing_file

    for file in (path, path.parent / f"{path.name}.pt"):
        if file.exists():
            return file
    raise missing_file(path)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(extract)
