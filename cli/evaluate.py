"""`zoo test`, `compare`, `speed` and `bias`: models against labelled data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.models import (
    BranchOfAll,
    ChosenModel,
    Models,
    Opener,
    Strict,
    named_models,
    num_frames,
    tell,
)
from cli.options import Branch, Device, Json, Model, ModelArgument, Quiet
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.evaluate.errors import Errors
    from dpa2.evaluate.frames import BadFrame
    from dpa2.evaluate.testing import TestReport


_TABLES_UP_TO = 4


def evaluate(
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
    from cli.output import progress_bar, shown_warnings
    from dpa2.evaluate.testing import read_list, run_test

    out = Output(json_mode=json_mode, quiet=quiet)
    paths = [*(system or []), *(more_systems or []), *(read_list(datafile) if datafile else [])]
    if not paths:
        raise typer.BadParameter("name data to test on with --system or --datafile")
    limit = numb_test or None
    with shown_warnings(out):
        potential, systems = Opener(out, device)(ChosenModel(model, branch), paths)
        with progress_bar(out, "frames", num_frames(systems, limit)) as advance:
            report = run_test(
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
    from dpa2.evaluate.errors import QUANTITIES

    rows = [
        (QUANTITIES[key].label, f"{stat.mae:.4g}", f"{stat.rmse:.4g}", QUANTITIES[key].unit)
        for key, stat in errors.items()
    ]
    out.table(title, ("", "MAE", "RMSE", "unit"), rows)


def _print_rmse(
    out: Output, entries: Sequence[tuple[str, int, "Errors"]], keys: Sequence[str]
) -> None:
    from dpa2.evaluate.errors import QUANTITIES

    headings = [f"{QUANTITIES[key].label} ({QUANTITIES[key].unit})" for key in keys]
    rows = [
        (name, str(frames), *(f"{errors[k].rmse:.4g}" if k in errors else "-" for k in keys))
        for name, frames, errors in entries
    ]
    out.table("RMSE by system", ("system", "frames", *headings), rows)


def register_test(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("test")(evaluate)


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
    from cli.output import progress_bar, shown_warnings
    from dpa2.evaluate.testing import run_test

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
    _compare_print(out, system, found)
    tell(out, bad)
    if bad:
        raise typer.Exit(1)


def _compare_print(out: Output, systems: list[str], found: "dict[str, Errors]") -> None:
    from dpa2.evaluate.errors import QUANTITIES

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


def register_compare(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(compare)


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
    from cli.output import progress_bar, shown_warnings
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


def register_speed(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="speed")(speed)


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
    from cli.output import shown_warnings
    from dpa2.training.energy_bias import rebias

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
    for line in found.shift.lines():
        out.text(line)
    out.info(f"wrote {found.path}")


def register_bias(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("bias")(bias)
