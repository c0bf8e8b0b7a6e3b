"""`zoo compare`: several models on the same data, in one table."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.bad_frames import Strict, tell
from cli.models import BranchOfAll, Models, Opener, named_models, num_frames
from cli.options import Device, Json, Quiet
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.evaluate.good_frames import BadFrame
    from dpa2.evaluate.metrics import Errors


def compare(
    models: Models,
    system: Annotated[
        list[str], typer.Option("--system", "-s", help="Folder with systems, FILE.h5#/GROUP, LMDB.")
    ],
    numb_test: Annotated[
        int, typer.Option("--numb-test", "-n", min=0, help="First frames per system; 0: all.")
    ] = 0,
    strict: Strict = False,
    branch: BranchOfAll = None,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test several models on the same labelled data and show their errors side by side.

    Frames that cannot be evaluated or have bad labels are named and left out; exit code 1 then.

    Example: zoo compare scratch=scratch/model.pth tuned=multitask.pt:water -s data/test
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.evaluate.run import run_test

    out = Output(json_mode=json_mode, quiet=quiet)
    chosen = named_models(models, branch)
    opened = Opener(out, device)
    limit = numb_test or None
    found: dict[str, Errors] = {}
    documents = []
    bad: list[BadFrame] = []
    with shown_warnings(out):
        for name, model in chosen.items():
            potential, systems = opened(model, system)
            total = num_frames(systems, limit)
            with progress_bar(out, f"{name}: frames", total) as advance:
                report = run_test(
                    potential, systems, max_frames=limit, strict=strict, progress=advance
                )
            found[name] = report.total
            told = report.to_json()
            document = {"name": name, **model.document(), **told["total"]}
            documents.append({**document, "bad_frames": told["bad_frames"]})
            bad += report.bad
    out.result({"ok": not bad, "systems": system, "models": documents})
    _print(out, system, found)
    tell(out, bad)
    if bad:
        raise typer.Exit(1)


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
