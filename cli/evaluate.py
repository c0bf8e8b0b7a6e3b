"""`zoo test`, `compare`, `speed` and `bias`: models against labelled data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from cli.models import (
    BranchOfAll,
    ChosenModel,
    Models,
    Opener,
    named_models,
    num_frames,
    tell_bad_frames,
)
from cli.options import Branch, Device, Document, Dtype, Model, ModelArgument, Strict
from cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpa2.evaluate.comparison import Errors
    from dpa2.evaluate.testing import TestReport

NumFrames = Annotated[
    int, Option("--numb-test", "-n", min=0, help="First frames per system; 0: all.")
]
_TABLES_UP_TO = 4


def evaluate(
    *,
    model: Model,
    system: Annotated[
        list[str] | None,
        Option("--system", "-s", help="Systems of deepmd-kit, or a labelled file of any format."),
    ] = None,
    more_systems: Annotated[
        list[str] | None, Argument(metavar="[SYSTEM]...", help="More systems.")
    ] = None,
    datafile: Annotated[
        Path | None, Option("--datafile", "-f", help="Text file with one system per line.")
    ] = None,
    numb_test: NumFrames = 0,
    detail_file: Annotated[
        str | None, Option("--detail-file", "-d", help="Write PREFIX.e.out, PREFIX.f.out, ...")
    ] = None,
    atomic: Annotated[
        bool, Option("--atomic", "-a", help="Compare energies of atoms too.")
    ] = False,
    plot: Annotated[
        Path | None, Option("--plot", help="Draw parity plots: .png, .pdf or .svg.")
    ] = None,
    strict: Strict = False,
    branch: Branch = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    out: Output,
) -> Document:
    """Compare a model with labelled data: one table per system, and all of it together.

    Frames that cannot be evaluated or have bad labels are named and left out; exit code 1 then.

    Example: zoo test -m model.ckpt.pt -s data/test -n 100 --plot parity.png
    """
    from dpa2.evaluate.testing import read_list, run_test

    paths = [*(system or []), *(more_systems or []), *(read_list(datafile) if datafile else [])]
    if not paths:
        raise typer.BadParameter("name data to test on with --system or --datafile")
    limit = numb_test or None
    with out.python_warnings():
        potential, systems = Opener(out, device, dtype)(ChosenModel(model, branch), paths)
        with out.progress("frames", num_frames(systems, limit)) as advance:
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
    _print(out, report)
    tell_bad_frames(out, report.bad)
    return {"ok": not report.bad, "model": model, "branch": branch, **report.to_json()}


def _print(out: Output, report: "TestReport") -> None:
    if len(report.systems) > _TABLES_UP_TO:
        entries = [(e.system, e.num_frames, e.errors) for e in report.systems]
        entries.append(("all", sum(e.num_frames for e in report.systems), report.total))
        headings, rows = _rmse(entry[2] for entry in entries)
        out.table(
            "RMSE by system",
            ("system", "frames", *headings),
            [(name, str(count), *row) for (name, count, _), row in zip(entries, rows, strict=True)],
        )
    else:
        for entry in report.systems:
            title = f"{entry.system}: {entry.num_frames} frames, {entry.num_atoms} atoms"
            _print_errors(out, title, entry.errors)
    if len(report.systems) > 1:
        _print_errors(out, f"all {len(report.systems)} systems, weighted", report.total)


def _print_errors(out: Output, title: str, errors: "Errors") -> None:
    from dpa2.evaluate.comparison import QUANTITIES

    rows = [
        (QUANTITIES[key].label, f"{stat.mae:.4g}", f"{stat.rmse:.4g}", QUANTITIES[key].unit)
        for key, stat in errors.items()
    ]
    out.table(title, ("", "MAE", "RMSE", "unit"), rows)


def _rmse(entries: "Iterable[Errors]", energy: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of a table with a row of errors for each entry."""
    from dpa2.evaluate.comparison import QUANTITIES

    found = list(entries)
    keys = ["energy"] * energy + ["energy_per_atom", "force", "virial_per_atom"]
    keys = [key for key in keys if any(key in errors for errors in found)]
    headings = [f"{QUANTITIES[key].label} ({QUANTITIES[key].unit})" for key in keys]
    return headings, [
        [f"{errors[key].rmse:.4g}" if key in errors else "-" for key in keys] for errors in found
    ]


def compare(
    *,
    models: Models,
    system: Annotated[
        list[str], Option("--system", "-s", help="Folder with systems, FILE.h5#/GROUP, LMDB.")
    ],
    numb_test: NumFrames = 0,
    strict: Strict = False,
    branch: BranchOfAll = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    out: Output,
) -> Document:
    """Test several models on the same labelled data and show their errors side by side.

    Frames that cannot be evaluated or have bad labels are named and left out; exit code 1 then.

    Example: zoo compare scratch=scratch/model.pth tuned=multitask.pt:water -s data/test
    """
    from dpa2.evaluate.testing import run_test

    chosen = named_models(models, branch)
    opened = Opener(out, device, dtype)
    limit = numb_test or None
    reports = []
    with out.python_warnings():
        for name, model in chosen.items():
            potential, systems = opened(model, system)
            with out.progress(f"{name}: frames", num_frames(systems, limit)) as advance:
                reports.append(
                    run_test(potential, systems, max_frames=limit, strict=strict, progress=advance)
                )
    headings, rows = _rmse((report.total for report in reports), energy=True)
    out.table(
        f"RMSE on {', '.join(system)}",
        ("model", *headings),
        [(name, *row) for name, row in zip(chosen, rows, strict=True)],
    )
    bad = [frame for report in reports for frame in report.bad]
    tell_bad_frames(out, bad)
    documents = []
    for (name, model), report in zip(chosen.items(), reports, strict=True):
        told = report.to_json()
        documents.append(
            {"name": name, **model.document(), **told["total"], "bad_frames": told["bad_frames"]}
        )
    return {"ok": not bad, "systems": system, "models": documents}


def speed(
    *,
    models: Models,
    system: Annotated[
        str, Option("--system", "-s", help="The system whose first frame is evaluated.")
    ],
    repeats: Annotated[
        int, Option("--repeats", "-r", min=1, help="Timed evaluations of each model.")
    ] = 10,
    branch: BranchOfAll = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    out: Output,
) -> Document:
    """Time energy, forces and virial of one frame, with all models in turns.

    Example: zoo speed model.ckpt.pt model.pth model.savedmodel -s data/test
    """
    from dpa2.evaluate.potential import measure, num_evaluations

    chosen = named_models(models, branch)
    opened = Opener(out, device, dtype)
    with out.python_warnings():
        potentials, frames = {}, {}
        for name, model in chosen.items():
            potentials[name], systems = opened(model, [system])
            frames[name] = systems[0].frames([0])
        with out.progress("evaluations", num_evaluations(len(chosen), repeats)) as advance:
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
    return {"ok": True, "system": system, "atoms": first.num_atoms, "models": documents}


def bias(
    *,
    model: ModelArgument,
    data: Annotated[
        list[str],
        Option("--data", "--system", "-s", metavar="DIR", help="Labelled data; may be repeated."),
    ],
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt", help="The checkpoint to write.")
    ],
    branch: Branch = None,
    mode: Annotated[
        Literal["change", "set"],
        Option("--mode", "-m", help="Add what the model leaves over, or replace the energies."),
    ] = "change",
    numb_batch: Annotated[
        int, Option("--numb-batch", "-n", min=0, help="Frames per system to look at; 0: all.")
    ] = 0,
    device: Device = "cpu",
    out: Output,
) -> Document:
    """Shift a model's energy per element to other data; the network stays as it is.

    For data of another code or functional, whose energies differ by a constant per element. A model
    with several branches gets the shift in one of them.

    Example: zoo bias model.ckpt.pt --branch water --data data/pbe -o shifted.pt
    """
    from dpa2.training.energy_bias import rebias

    with out.python_warnings(), out.status(f"looking at {', '.join(data)}"):
        found = rebias(
            model,
            data,
            output,
            branch=branch,
            mode=mode,
            max_frames=numb_batch or None,
            device=device,
        )
    for line in found.shift.lines():
        out.text(line)
    out.info(f"wrote {found.path}")
    return {
        "ok": True,
        "model": model,
        "branch": found.branch,
        "output": found.path,
        "energy_bias": found.shift.document(),
    }
