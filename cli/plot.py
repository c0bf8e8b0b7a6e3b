"""`zoo plot`: learning curves, in the terminal and as an image."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import Json, Quiet
from cli.output import Output


def plot(
    lcurve: Annotated[Path, typer.Argument(help="lcurve.out of a training run.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Image to write: .png, .pdf or .svg.")
    ] = None,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw the losses over the steps, from a run of this program or of deepmd-kit.

    Example: zoo plot lcurve.out -o curve.png
    """
    from dpa2.evaluate.learning_curve import read_learning_curve
    from dpa2.evaluate.learning_curve_plot import plot_learning_curve, terminal_learning_curve

    out = Output(json_mode=json_mode, quiet=quiet)
    curve = read_learning_curve(lcurve)
    if output is not None:
        plot_learning_curve(curve, output)
    if not json_mode and not quiet:
        console = out.console(stderr=False)
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        width = min(console.width, 100)
        console.print(terminal_learning_curve(curve, width=width, unicode=unicode))
    if output is not None:
        out.info(f"wrote {output}")
    last: dict[str, Any] = {
        "step": int(curve.steps[-1]),
        "learning_rate": _last(curve.learning_rate),
    }
    for series in curve.series:
        name = "_".join(filter(None, (series.metric, series.split, series.branch)))
        last[name] = _last(series.values)
    out.result(
        {
            "ok": True,
            "file": str(lcurve),
            "output": None if output is None else str(output),
            "num_rows": len(curve.steps),
            "last": last,
        }
    )


def _last(values: Any) -> float | None:
    """Return the last number that JSON can hold."""
    finite = [float(value) for value in values if abs(float(value)) < float("inf")]
    return finite[-1] if finite else None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(plot)
