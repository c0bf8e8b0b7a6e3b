"""`zoo export`: a checkpoint as a safetensors file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import FileArgument, Json, Quiet
from cli.output import Output


def export(
    model: FileArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Write a safetensors file.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a file that is there.")
    ] = False,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a checkpoint as safetensors (tensors and JSON, no pickle), and such a file back.

    Example: zoo export model.pt --safetensors -o model.safetensors

    Example: zoo export model.safetensors -o model.pt
    """
    from schemas.errors import ConversionError
    from zoo.safetensors_file import from_safetensors, to_safetensors

    out = Output(json_mode=json_mode, quiet=quiet)
    backwards = Path(model).suffix == ".safetensors"
    if backwards == safetensors:
        raise ConversionError(
            f"{model} is a safetensors file already"
            if safetensors
            else "the format to write is not said",
            hint="zoo export F.safetensors -o M.pt"
            if safetensors
            else "zoo export M.pt --safetensors -o F.safetensors",
        )
    if output.exists() and not force:
        raise ConversionError(
            f"{output} is there already", hint="name another file, or add --force to replace it"
        )
    with out.status(f"reading {model}"):
        found = from_safetensors(model, output) if backwards else to_safetensors(model, output)
    out.result(
        {
            "ok": True,
            "model": str(model),
            "output": str(found.path),
            "tensors": found.tensors,
            "num_bytes": found.num_bytes,
        }
    )
    out.text(f"{found.path}: {found.tensors} tensors, {found.num_bytes / 1e6:.1f} MB")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(export)
