"""`zoo convert`: a model from one file format to another."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Branch, Json, Quiet, find_model
from cli.output import Output


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", callback=find_model, help="Model file, or name of a pretrained model."
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write; its suffix names the format.")
    ],
    branch: Branch = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="Write parameters in float32 or float64; default: as is."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a file that is there.")
    ] = False,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert between .pt, .pth, .dp, .yaml, .safetensors; write .savedmodel, .hlo for JAX.

    Weights keep their bits. What the output cannot hold is named.

    Example: zoo convert model.ckpt.pt model.dp
    """
    from cli.safetensors_format import register_safetensors
    from dpa2.convert.convert import convert as convert_model

    register_safetensors()

    out = Output(json_mode=json_mode, quiet=quiet)
    with out.status(f"converting {source}"):
        done = convert_model(
            source, output, branch=branch, dtype=dtype, force=force, report=out.info
        )
    out.result(
        {
            "ok": True,
            "source": str(done.source),
            "source_format": done.source_format,
            "branch": done.branch,
            "output": str(done.path),
            "format": done.format,
            "type_map": done.type_map,
            "precision": done.precision,
            "num_parameters": done.num_parameters,
            "num_bytes": done.num_bytes,
            "left_behind": done.left_behind,
            "notes": done.notes,
        }
    )
    for note in done.notes:
        out.warning(note)
    if done.left_behind:
        out.info(f"not in {done.path.name}: {'; '.join(done.left_behind)}")
    out.text(
        f"{done.path}: {len(done.type_map)} types, {done.num_parameters:,} parameters in "
        f"{done.precision}, {done.num_bytes / 1e6:.1f} MB"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(convert)
