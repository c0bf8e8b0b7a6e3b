"""`zoo compare`: several models on the same data, in one table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Device, Json, Quiet, find_model, split_name
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.evaluate.metrics import Errors


def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]MODEL...", help="Models (.pt, .pth), named as you like."),
    ],
    system: Annotated[
        list[str], typer.Option("--system", "-s", help="Folder with systems, FILE.h5#/GROUP, LMDB.")
    ],
    numb_test: Annotated[
        int, typer.Option("--numb-test", "-n", min=0, help="First frames per system; 0: all.")
    ] = 0,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test several models on the same labelled data and show their errors side by side.

    Example: zoo compare scratch=scratch/model.pth tuned=tuned/model.pth -s data/test
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.data.systems import open_systems
    from dpa2.evaluate.potential import load
    from dpa2.evaluate.run import run_test

    out = Output(json_mode=json_mode, quiet=quiet)
    found: dict[str, Errors] = {}
    documents = []
    for entry in models:
        name, reference = split_name(entry)
        path = find_model(reference)
        label = name or _label(path, found)
        if label in found:
            raise typer.BadParameter(f"two models are called {label}")
        with shown_warnings(out):
            potential = load(path, None, device)
            systems = open_systems(system, potential.type_map)
            total = sum(
                min(opened.num_frames, numb_test or opened.num_frames) for opened in systems
            )
            with progress_bar(out, f"{label}: frames", total) as advance:
                report = run_test(
                    potential, systems, max_frames=numb_test or None, progress=advance
                )
        found[label] = report.total
        documents.append({"name": label, "model": path, **report.to_json()["total"]})
    out.result({"ok": True, "systems": system, "models": documents})
    _print(out, system, found)


def _label(path: str, taken: dict[str, Any]) -> str:
    return path if Path(path).stem in taken else Path(path).stem


def _print(out: Output, systems: list[str], found: "dict[str, Errors]") -> None:
    from dpa2.evaluate.quantities import QUANTITIES

    keys = [
        key
        for key in ("energy", "energy_per_atom", "force", "virial_per_atom")
        if any(key in errors for errors in found.values())
    ]
    headings = [f"{QUANTITIES[key].label} ({QUANTITIES[key].unit})" for key in keys]
    rows = [
        (name, *(f"{errors[key].rmse:.4g}" if key in errors else "-" for key in keys))
        for name, errors in found.items()
    ]
    out.table(f"RMSE on {', '.join(systems)}", ("model", *headings), rows)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(compare)
