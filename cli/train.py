"""`zoo train`: train a DPA-2 model from an input file."""

import math
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="train")(train)


def train(
    input_file: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file, JSON or YAML.")],
    restart: Annotated[
        Path | None,
        typer.Option("--restart", "-r", metavar="CKPT", help="Continue an interrupted run."),
    ] = None,
    init_model: Annotated[
        Path | None,
        typer.Option("--init-model", "-i", metavar="CKPT", help="Start from these weights."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the complete, normalised input goes.")
    ] = Path("out.json"),
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key: --set training.numb_steps=1000."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda; default: a GPU if there is one.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on stdout.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, no log lines.")
    ] = False,
) -> None:
    """Train a model; interrupt with Ctrl-C at any time and continue with --restart."""
    from cli.render import render
    from schemas.check import check_file

    out = Output(json_mode=as_json, quiet=quiet)
    report = check_file(input_file, overrides or [])
    for line in render(report, "full"):
        typer.echo(line, err=True)
    if report.config is None:
        faults = [item.document() for item in report.diagnostics]
        out.result({"ok": False, "file": report.name, "diagnostics": faults})
        raise typer.Exit(1)

    from dpa2.training.run import train as run_training

    result = run_training(
        report.config,
        restart=restart,
        init_model=init_model,
        output=str(output),
        device=device,
        progress=not quiet,
    )
    out.result(_document(result))
    if result.stopped_by is not None:
        again = [str(input_file), "--restart", str(result.checkpoint)]
        again += [part for change in overrides or [] for part in ("--set", change)]
        out.info(
            f"{result.stopped_by}: stopped after {result.steps_done} of {result.num_steps} steps; "
            f"continue with\n  zoo train {shlex.join(again)}"
        )
        raise typer.Exit(130)
    out.info(
        f"{result.steps_done} steps in {result.seconds:.1f} s; model: {result.checkpoint}; "
        f"learning curve: {result.curve}"
    )


def _document(result: Any) -> dict[str, Any]:
    """Return the result for `--json`; JSON has no nan, so that absent errors are null."""
    return {
        "ok": result.stopped_by is None,
        "checkpoint": str(result.checkpoint),
        "learning_curve": str(result.curve),
        "num_steps": result.num_steps,
        "steps_done": result.steps_done,
        "learning_rate": result.learning_rate,
        "errors": {
            name: value if math.isfinite(value) else None for name, value in result.metrics.items()
        },
        "seconds": round(result.seconds, 3),
        "stopped_by": result.stopped_by,
    }
