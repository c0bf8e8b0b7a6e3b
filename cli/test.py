"""`zoo test`: errors of a model on labelled data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bad_frames import Strict, tell
from cli.models import ChosenModel, Opener, num_frames
from cli.options import Branch, Device, Json, Model, Quiet
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.evaluate.metrics import Errors
    from dpa2.evaluate.run import TestReport

_TABLES_UP_TO = 4


def compare(
    model: Model,
    system: Annotated[
        list[str] | None,
        typer.Option(
            "--system", "-s", help="Systems of deepmd-kit, or a labelled file of any format."
        ),
    ] = None,
    more_systems: Annotated[
        list[str] | None, typer.Argument(metavar="[SYSTEM]...", help="More systems.")
    ] = None,
    datafile: Annotated[
        Path | None, typer.Option("--datafile", "-f", help="Text file with one system per line.")
    ] = None,
    numb_test: Annotated[
        int, typer.Option("--numb-test", "-n", min=0, help="First frames per system; 0: all.")
    ] = 0,
    detail_file: Annotated[
        str | None,
        typer.Option("--detail-file", "-d", help="Write PREFIX.e.out, PREFIX.f.out, ..."),
    ] = None,
    atomic: Annotated[
        bool, typer.Option("--atomic", "-a", help="Compare energies of atoms too.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw parity plots: .png, .pdf or .svg.")
    ] = None,
    strict: Strict = False,
    branch: Branch = None,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare a model with labelled data: one table per system, and all of it together.

    Frames that cannot be evaluated or have bad labels are named and left out; exit code 1 then.

    Example: zoo test -m model.ckpt.pt -s data/test -n 100 --plot parity.png
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.evaluate.run import read_list, run_test_with_files

    out = Output(json_mode=json_mode, quiet=quiet)
    paths = [*(system or []), *(more_systems or []), *(read_list(datafile) if datafile else [])]
    if not paths:
        raise typer.BadParameter("name data to test on with --system or --datafile")
    limit = numb_test or None
    with shown_warnings(out):
        potential, systems = Opener(out, device)(ChosenModel(model, branch), paths)
        with progress_bar(out, "frames", num_frames(systems, limit)) as advance:
            report = run_test_with_files(
                potential,
                systems,
                max_frames=limit,
                atomic=atomic,
                strict=strict,
                detail_prefix=detail_file,
                plot=plot,
                progress=advance,
            )
    out.result({"ok": not report.bad, "model": model, "branch": branch, **report.to_json()})
    _print(out, report)
    tell(out, report.bad)
    if report.bad:
        raise typer.Exit(1)


def _print(out: Output, report: "TestReport") -> None:
    several = len(report.systems) > 1
    if len(report.systems) > _TABLES_UP_TO:
        columns = ("energy_per_atom", "force", "virial_per_atom")
        entries = [(e.system, e.num_frames, e.errors) for e in report.systems]
        entries.append(("all", sum(e.num_frames for e in report.systems), report.total))
        _print_rmse(out, entries, [key for key in columns if key in report.total])
    else:
        for entry in report.systems:
            title = f"{entry.system}: {entry.num_frames} frames, {entry.num_atoms} atoms"
            _print_errors(out, title, entry.errors)
    if several:
        _print_errors(out, f"all {len(report.systems)} systems, weighted", report.total)


def _print_errors(out: Output, title: str, errors: "Errors") -> None:
    from dpa2.evaluate.quantities import QUANTITIES

    rows = [
        (QUANTITIES[key].label, f"{stat.mae:.4g}", f"{stat.rmse:.4g}", QUANTITIES[key].unit)
        for key, stat in errors.items()
    ]
    out.table(title, ("", "MAE", "RMSE", "unit"), rows)


def _print_rmse(
    out: Output, entries: Sequence[tuple[str, int, "Errors"]], keys: Sequence[str]
) -> None:
    from dpa2.evaluate.quantities import QUANTITIES

    headings = [f"{QUANTITIES[key].label} ({QUANTITIES[key].unit})" for key in keys]
    rows = [
        (name, str(frames), *(f"{errors[k].rmse:.4g}" if k in errors else "-" for k in keys))
        for name, frames, errors in entries
    ]
    out.table("RMSE by system", ("system", "frames", *headings), rows)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("test")(compare)
