"""`zoo freeze`: a checkpoint as one file for LAMMPS, deepmd-kit and C++."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Branch, Json, Quiet
from cli.output import Output


def freeze(
    checkpoint: Annotated[
        Path,
        typer.Option(
            "--checkpoint", "-c", help="Checkpoint (.pt), or a folder with a `checkpoint` file."
        ),
    ] = Path(),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; .pth is added if missing.")
    ] = Path("frozen_model.pth"),
    branch: Branch = None,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Freeze a checkpoint to TorchScript, which runs in LAMMPS without this program.

    Example: zoo freeze -c model.ckpt.pt -o model.pth
    """
    from dpa2.freeze.torchscript import freeze as freeze_checkpoint

    out = Output(json_mode=json_mode, quiet=quiet)
    with out.status(f"freezing {checkpoint}"):
        frozen = freeze_checkpoint(checkpoint, output, branch)
    out.result(
        {
            "ok": True,
            "checkpoint": str(frozen.checkpoint),
            "branch": frozen.branch,
            "output": str(frozen.path),
            "type_map": frozen.type_map,
            "num_parameters": frozen.num_parameters,
            "num_bytes": frozen.num_bytes,
        }
    )
    out.text(
        f"{frozen.path}: {len(frozen.type_map)} types, {frozen.num_parameters:,} parameters, "
        f"{frozen.num_bytes / 1e6:.1f} MB"
    )
    out.info(
        f"LAMMPS: pair_style deepmd {frozen.path}; pair_coeff * * {' '.join(frozen.type_map[:8])}"
        + (" ..." if len(frozen.type_map) > 8 else "")
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(freeze)
