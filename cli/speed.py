"""`zoo speed`: how long an evaluation takes, for several models or formats of one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Device, Json, Quiet, find_model, split_name
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.data.frames import Frames
    from dpa2.evaluate.potential import Potential


def speed(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]MODEL...", help="Models of any format, named as you like."),
    ],
    system: Annotated[
        str, typer.Option("--system", "-s", help="The system whose first frame is evaluated.")
    ],
    repeats: Annotated[
        int, typer.Option("--repeats", "-r", min=1, help="Timed evaluations of each model.")
    ] = 10,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Time energy, forces and virial of one frame, with all models in turns.

    Example: zoo speed model.ckpt.pt model.pth -s data/test
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.evaluate.potential import load
    from dpa2.evaluate.speed import measure, num_evaluations

    out = Output(json_mode=json_mode, quiet=quiet)
    paths: dict[str, str] = {}
    for entry in models:
        name, reference = split_name(entry)
        path = find_model(reference)
        label = name or Path(path).name
        if label in paths:
            raise typer.BadParameter(f"two models are called {label}; write NAME=MODEL")
        paths[label] = path
    with shown_warnings(out):
        potentials = {name: load(path, None, device) for name, path in paths.items()}
        frames = {name: _first_frame(system, model) for name, model in potentials.items()}
        total = num_evaluations(len(paths), repeats)
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
            "model": paths[name],
            "seconds": item.seconds,
            "median_seconds": item.median,
            "microseconds_per_atom": item.microseconds_per_atom,
        }
        for name, item in timings.items()
    ]
    out.result({"ok": True, "system": system, "atoms": first.num_atoms, "models": documents})


def _first_frame(system: str, model: "Potential") -> "Frames":
    import numpy as np

    from dpa2.data.systems import open_systems

    (first, *_) = open_systems(system, model.type_map)
    return first.frames(np.array([0]))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="speed")(speed)
