"""`zoo bias`: fit the energies of the elements of a model to other data, without training."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import Branch, Device, Json, ModelArgument, Quiet
from cli.output import Output


def bias(
    model: ModelArgument,
    data: Annotated[
        list[str],
        typer.Option(
            "--data", "--system", "-s", metavar="DIR", help="Labelled data; may be repeated."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.pt", help="The checkpoint to write.")
    ],
    branch: Branch = None,
    mode: Annotated[
        Literal["change", "set"],
        typer.Option(
            "--mode", "-m", help="Add what the model leaves over, or replace the energies."
        ),
    ] = "change",
    numb_batch: Annotated[
        int,
        typer.Option("--numb-batch", "-n", min=0, help="Frames per system to look at; 0: all."),
    ] = 0,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Shift a model's energy per element to other data; the network stays as it is.

    For data of another code or functional, whose energies differ by a constant per element. A model
    with several branches gets the shift in one of them.

    Example: zoo bias model.ckpt.pt --branch water --data data/pbe -o shifted.pt
    """
    from cli.progress import shown_warnings
    from dpa2.finetune.checkpoint_bias import rebias
    from dpa2.finetune.provenance import shift_lines

    out = Output(json_mode=json_mode, quiet=quiet)
    with shown_warnings(out), out.status(f"looking at {', '.join(data)}"):
        found = rebias(
            model,
            data,
            output,
            branch=branch,
            mode=mode,
            max_frames=numb_batch or None,
            device=device,
        )
    out.result(
        {
            "ok": True,
            "model": str(model),
            "branch": found.branch,
            "output": str(found.path),
            "energy_bias": found.shift.document(),
        }
    )
    for line in shift_lines(found.shift):
        out.text(line)
    out.info(f"wrote {found.path}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("bias")(bias)
