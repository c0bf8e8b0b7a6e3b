"""`zoo speed`: how long an evaluation takes, for several models or formats of one."""

from typing import Annotated

import typer

from cli.models import BranchOfAll, Models, Opener, named_models
from cli.options import Device, Json, Quiet
from cli.output import Output


def speed(
    models: Models,
    system: Annotated[
        str, typer.Option("--system", "-s", help="The system whose first frame is evaluated.")
    ],
    repeats: Annotated[
        int, typer.Option("--repeats", "-r", min=1, help="Timed evaluations of each model.")
    ] = 10,
    branch: BranchOfAll = None,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Time energy, forces and virial of one frame, with all models in turns.

    Example: zoo speed model.ckpt.pt model.pth model.savedmodel -s data/test
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.evaluate.speed import first_frame, measure, num_evaluations

    out = Output(json_mode=json_mode, quiet=quiet)
    chosen = named_models(models, branch)
    opened = Opener(out, device)
    with shown_warnings(out):
        potentials, frames = {}, {}
        for name, model in chosen.items():
            potentials[name], systems = opened(model, [system])
            frames[name] = first_frame(systems[0])
        total = num_evaluations(len(chosen), repeats)
        with progress_bar(out, "evaluations", total) as advance:
            timings = measure(potentials, frames, repeats, advance)
    first = next(iter(timings.values()))
    rows = [
        (
            name,
            f"{1e3 * item.median:.1f}",
            f"{item.microseconds_per_atom:.1f}",
            f"{item.nanoseconds_per_day:.3f}",
            f"{first.median / item.median:.2f}",
        )
        for name, item in timings.items()
    ]
    columns = ("model", "ms", "µs/atom", "ns/day at 0.5 fs", "speed")
    out.table(f"{first.num_atoms} atoms, median of {repeats} evaluations", columns, rows)
    documents = [
        {
            "name": name,
            **chosen[name].document(),
            "seconds": item.seconds,
            "median_seconds": item.median,
            "microseconds_per_atom": item.microseconds_per_atom,
        }
        for name, item in timings.items()
    ]
    out.result({"ok": True, "system": system, "atoms": first.num_atoms, "models": documents})


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="speed")(speed)
