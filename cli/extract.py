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
    from dpa2.convert.extract import extract_branch

    out = Output(json_mode=json_mode, quiet=quiet)
    with out.status(f"reading {model}"):
        found = extract_branch(model, branch, output, force=force)
    out.result(
        {
            "ok": True,
            "model": str(found.source),
            "branch": found.branch,
            "output": str(found.path),
            "type_map": found.type_map,
            "num_bytes": found.num_bytes,
        }
    )
    out.text(
        f"{found.path}: branch {found.branch}, {len(found.type_map)} types, "
        f"{found.num_bytes / 1e6:.1f} MB"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(extract)
