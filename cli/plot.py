"""`zoo plot`: learning curves, in the terminal and as an image."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json, Quiet, split_name
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.evaluate.learning_curve import LearningCurve


def plot(
    lcurves: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]LCURVE...", help="lcurve.out of one or several runs."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Image to write: .png, .pdf or .svg.")
    ] = None,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw the losses over the steps, from runs of this program or of deepmd-kit.

    Example: zoo plot lcurve.out -o curve.png
    Several: zoo plot scratch=a/lcurve.out tuned=b/lcurve.out -o curves.png
    """
    from dpa2.evaluate.learning_curve import read_learning_curve
    from dpa2.evaluate.learning_curve_plot import plot_learning_curve, terminal_learning_curve
    from dpa2.evaluate.run_comparison import plot_runs

    out = Output(json_mode=json_mode, quiet=quiet)
    curves = {}
    for entry in lcurves:
        name, file = split_name(entry)
        if (name or file) in curves:
            raise typer.BadParameter(f"two runs are called {name or file}")
        curves[name or file] = read_learning_curve(file)
    if output is not None:
        if len(curves) == 1:
            (curve,) = curves.values()
            plot_learning_curve(curve, output)
        else:
            plot_runs(curves, output)
    if not json_mode and not quiet:
        console = out.console(stderr=False)
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        width = min(console.width, 100)
        for name, curve in curves.items():
            if len(curves) > 1:
                console.print(name)
            console.print(terminal_learning_curve(curve, width=width, unicode=unicode))
    if output is not None:
        out.info(f"wrote {output}")
    document: dict[str, Any] = {"ok": True, "output": None if output is None else str(output)}
    runs = [{"file": name, **_summary(curve)} for name, curve in curves.items()]
    out.result({**document, **runs[0]} if len(runs) == 1 else {**document, "runs": runs})


def _summary(curve: "LearningCurve") -> dict[str, Any]:
    last: dict[str, Any] = {
        "step": int(curve.steps[-1]),
        "learning_rate": _last(curve.learning_rate),
    }
    for series in curve.series:
        name = "_".join(filter(None, (series.metric, series.split, series.branch)))
        last[name] = _last(series.values)
    return {"num_rows": len(curve.steps), "last": last}


def _last(values: Any) -> float | None:
    """Return the last number that JSON can hold."""
    finite = [float(value) for value in values if abs(float(value)) < float("inf")]
    return finite[-1] if finite else None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(plot)
