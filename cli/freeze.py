"""`zoo freeze`: a checkpoint as one file for LAMMPS, deepmd-kit and C++."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Branch, Device, Json, Quiet, find_model
from cli.output import Output


def freeze(
    checkpoint: Annotated[
        Path,
        typer.Option(
            "--checkpoint",
            "-c",
            callback=find_model,
            help="Checkpoint (.pt), name or address, or a folder with a `checkpoint` file.",
        ),
    ] = Path(),
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .pth runs on every machine; .pt2 is compiled for this one.",
        ),
    ] = Path("frozen_model.pth"),
    branch: Branch = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="Compute in float32 or float64; default: as trained."),
    ] = None,
    atomic_virial: Annotated[
        bool,
        typer.Option("--atomic-virial", help="In a .pt2: virials of atoms, too; slower."),
    ] = False,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Freeze a checkpoint to TorchScript, or compile it; both run without this program.

    A .pt2 file holds machine code: it belongs to the kind of processor or GPU, and to the release
    of torch, that compiled it, and LAMMPS runs it on one rank with `atom_modify map yes`.

    Example: zoo freeze -c model.ckpt.pt -o model.pth
    """
    from time import perf_counter

    from dpa2.freeze.torchscript import freeze as freeze_checkpoint

    out = Output(json_mode=json_mode, quiet=quiet)
    start = perf_counter()
    with _stages(out, f"freezing {checkpoint}") as report:
        frozen = freeze_checkpoint(
            checkpoint,
            output,
            branch,
            dtype=dtype,
            atomic_virial=atomic_virial,
            device=device,
            report=report,
        )
    seconds = perf_counter() - start
    out.result(
        {
            "ok": True,
            "checkpoint": str(frozen.checkpoint),
            "branch": frozen.branch,
            "output": str(frozen.path),
            "type_map": frozen.type_map,
            "num_parameters": frozen.num_parameters,
            "num_bytes": frozen.num_bytes,
            "seconds": round(seconds, 1),
        }
    )
    out.text(
        f"{frozen.path}: {len(frozen.type_map)} types, {frozen.num_parameters:,} parameters, "
        f"{frozen.num_bytes / 1e6:.1f} MB, {seconds:.0f} s"
    )
    elements = " ".join(frozen.type_map[:8]) + (" ..." if len(frozen.type_map) > 8 else "")
    out.info(f"LAMMPS: pair_style deepmd {frozen.path}; pair_coeff * * {elements}")
    if frozen.is_compiled:
        out.info("LAMMPS: on one rank, with `atom_modify map yes` before the atoms are read")


@contextmanager
def _stages(out: Output, what: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on and since when; yields what to call with the name of the next stage."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = out.console()
    if out.quiet or not console.is_terminal:
        out.info(what)
        yield out.info
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what)
        yield lambda stage: progress.update(task, description=f"{what}: {stage}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(freeze)
