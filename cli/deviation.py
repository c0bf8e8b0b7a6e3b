"""`zoo deviation`: how far several models disagree."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bad_frames import Strict, tell
from cli.models import BranchOfAll, chosen_model
from cli.options import Device, Json, Quiet
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.evaluate.deviation import SystemDeviation


def deviation(
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL[:BRANCH]",
            help="Model of any format, or name; give several.",
        ),
    ],
    systems: Annotated[
        list[str],
        typer.Option(
            "--system", "-s", help="Systems of deepmd-kit, or a trajectory of any format."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "model_devi.out"
    ),
    frequency: Annotated[
        int, typer.Option("--frequency", "-f", min=1, help="Steps between two frames.")
    ] = 1,
    real_error: Annotated[
        bool,
        typer.Option("--real-error", "--real_error", help="Errors against labels instead."),
    ] = False,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Add the force deviation of every atom.")
    ] = False,
    relative: Annotated[
        float | None,
        typer.Option("--relative", min=0.0, help="Relative force deviation; its level in eV/Å."),
    ] = None,
    relative_v: Annotated[
        float | None,
        typer.Option(
            "--relative-v", "--relative_v", min=0.0, help="Relative virial deviation; level in eV."
        ),
    ] = None,
    strict: Strict = False,
    branch: BranchOfAll = None,
    device: Device = "cpu",
    force: Annotated[
        bool, typer.Option("--force", help="Replace an output file that is there.")
    ] = False,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare several models frame by frame, in the columns of dp model-devi.

    Frames that cannot be evaluated get a row of nan, and exit code 1; the others are evaluated.

    Example: zoo deviation -m a.pt -m b.pt -m c.pt -s explored -o model_devi.out
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.data.structures.systems import open_data
    from dpa2.evaluate.deviation import (
        DeviationSettings,
        deviate,
        write_deviations,
    )
    from dpa2.evaluate.potential import load
    from schemas.errors import DataError

    out = Output(json_mode=json_mode, quiet=quiet)
    if output.exists() and not force:
        raise DataError(f"{output} is there already", hint="name another file, or add --force")
    with shown_warnings(out):
        with out.status(f"loading {len(models)} models"):
            chosen = [chosen_model(model, branch) for model in models]
            potentials = [load(model.file, model.branch, device) for model in chosen]
        opened = open_data(systems, potentials[0].type_map, read_labels=real_error)
        for text in (text for system in opened for text in system.warnings):
            out.warning(text)
        settings = DeviationSettings(relative, relative_v, real_error, frequency, strict)
        total = sum(system.num_frames for system in opened)
        with progress_bar(out, "frames", total) as advance:
            found = write_deviations(
                output, deviate(potentials, opened, settings, advance, models), atomic=atomic
            )
    bad = [frame for entry in found for frame in entry.bad]
    out.result(
        {
            "ok": not bad,
            "models": models,
            "output": str(output),
            "systems": [entry.to_json() for entry in found],
        }
    )
    _print(out, found)
    out.info(f"wrote {output}")
    tell(out, bad)
    if bad:
        raise typer.Exit(1)


def _print(out: Output, found: "list[SystemDeviation]") -> None:
    """Show the largest of each kind: what decides whether frames go to be labelled."""
    rows = [
        (
            entry.system,
            str(len(entry.step)),
            *("-" if value is None else f"{value:.4g}" for value in largest),
        )
        for entry in found
        if (largest := [entry.largest[column] for column in (3, 5, 0, 6)])
    ]
    columns = ("system", "frames", "max_devi_f", "avg_devi_f", "max_devi_v", "devi_e")
    out.table("largest over the frames", columns, rows)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(deviation)
