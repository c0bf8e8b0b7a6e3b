"""`zoo train`, `zoo finetune` and `zoo plot`: training runs and their learning curves."""

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import Json, Model, Quiet, find_model, split_name
from cli.output import Output
from cli.start import SkipNeighborStat, read_start, without_neighbors

if TYPE_CHECKING:
    from dpa2.evaluate.learning_curve import LearningCurve
    from dpa2.training.optimizer import Tuning
    from dpa2.training.trainer import TrainResult
    from schemas.base.diagnostics import Finding
    from schemas.input.start import Start


InputFile = Annotated[Path, typer.Argument(metavar="INPUT", help="Input file, JSON or YAML.")]
NormalizedInput = Annotated[
    Path, typer.Option("--output", "-o", help="Where the complete, normalised input goes.")
]
OutputFolder = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        metavar="FOLDER",
        help="Where everything is written; default: the current folder.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Write over the files of another run in that folder.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key: --set training.numb_steps=1000."
    ),
]
TrainingDevice = Annotated[
    str | None, typer.Option("--device", help="cpu or cuda; default: a GPU if there is one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
NoProgress = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no log lines.")]
PretrainedBranch = Annotated[
    str | None,
    typer.Option(
        "--branch",
        "--head",
        "--model-branch",
        metavar="NAME",
        help="Branch to start from: name or alias; RANDOM: its descriptor, a new fitting net.",
    ),
]
PretrainScript = Annotated[
    bool,
    typer.Option(
        "--use-pretrain-script", help="Take the networks' sections of the input from the model."
    ),
]
BiasMode = Literal["change", "set", "none"]
EnergyBias = Annotated[
    BiasMode | None,
    typer.Option(
        "--bias-mode",
        help="Energies of the elements: shifted by what the model leaves over, fitted anew, or "
        "left. Default: change; set for a random fitting net.",
    ),
]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says about a run beside what it starts from."""

    input_file: Path
    output: Path
    overrides: list[str]
    device: str | None
    as_json: bool
    quiet: bool
    tuning: "Tuning | None" = None
    output_dir: Path | None = None
    force: bool = False
    skip_neighbor_stat: bool = False


def train(
    input_file: InputFile,
    restart: Annotated[
        str | None,
        typer.Option("--restart", "-r", metavar="CKPT", help="Continue an interrupted run."),
    ] = None,
    init_model: Annotated[
        str | None,
        typer.Option(
            "--init-model",
            "-i",
            metavar="CKPT",
            callback=find_model,
            help="Start from these weights.",
        ),
    ] = None,
    finetune: Annotated[
        str | None,
        typer.Option(
            "--finetune",
            "-t",
            metavar="CKPT",
            callback=find_model,
            help="As zoo finetune --model CKPT.",
        ),
    ] = None,
    branch: PretrainedBranch = None,
    use_pretrain_script: PretrainScript = False,
    skip_neighbor_stat: SkipNeighborStat = False,
    bias_mode: EnergyBias = None,
    output: NormalizedInput = Path("out.json"),
    output_dir: OutputFolder = None,
    force: Force = False,
    overrides: Overrides = None,
    device: TrainingDevice = None,
    as_json: AsJson = False,
    quiet: NoProgress = False,
) -> None:
    """Train a model; interrupt with Ctrl-C at any time and continue with --restart."""
    _run(
        read_start(
            finetune=finetune,
            restart=restart,
            init_model=init_model,
            branch=branch,
            use_pretrain_script=use_pretrain_script,
            bias_mode=bias_mode,
        ),
        RunOptions(
            input_file,
            output,
            overrides or [],
            device,
            as_json,
            quiet,
            output_dir=output_dir,
            force=force,
            skip_neighbor_stat=skip_neighbor_stat,
        ),
    )


def _run(started: "tuple[Start | None, list[Finding]]", options: RunOptions) -> None:
    """Check the input, and the checkpoint that it starts from, and train.

    Whether anyone reads what is printed makes no difference to the training.

    Args:
        started: The checkpoint, and what is wrong with it.
        options: Everything else.

    Raises:
        typer.Exit: With 1 when there are errors in the input, with 130 after an interruption.
    """
    from schemas.base.writing import lasting_output

    with lasting_output():
        _check_and_train(started, options)


def _check_and_train(started: "tuple[Start | None, list[Finding]]", options: RunOptions) -> None:
    from cli.render import render
    from schemas.check.input_file import check_file

    out = Output(json_mode=options.as_json, quiet=options.quiet)
    start, faults = started
    report = check_file(options.input_file, options.overrides, start, folder=options.output_dir)
    if faults and report.extend is not None:
        report = report.extend(faults)
    if options.skip_neighbor_stat:
        report = without_neighbors(report)
    for line in render(report, "full"):
        typer.echo(line, err=True)
    if report.config is None:
        found = [item.document() for item in report.diagnostics]
        out.result({"ok": False, "file": report.name, "diagnostics": found})
        raise typer.Exit(1)

    from dpa2.formats.checkpoint import read_checkpoint
    from dpa2.training.run import run
    from dpa2.training.run_folder import RunFolder
    from dpa2.training.start import choose_start

    checkpoint = None if start is None else read_checkpoint(start.file)
    result = run(
        report.config,
        choose_start(report.config, start, checkpoint, options.tuning),
        RunFolder(report.config, options.output_dir or Path(), str(options.output)),
        force=options.force,
        device=options.device,
        progress=not options.quiet,
    )
    out.result(_document(result))
    if result.stopped_by is not None:
        out.info(
            f"{result.stopped_by}: stopped after {result.steps_done} of {result.num_steps} steps; "
            f"continue with\n  {_continuation(start, options, result)}"
        )
        raise typer.Exit(130)
    out.info(
        f"{result.steps_done} steps in {result.seconds:.1f} s; model: {result.checkpoint}; "
        f"learning curve: {result.curve}"
    )


def _continuation(start: "Start | None", options: RunOptions, result: "TrainResult") -> str:
    """Return the command that continues; the input may lack what came from a pretrained model."""
    words = [str(options.input_file)]
    words += [part for change in options.overrides for part in ("--set", change)]
    if start is not None and start.use_pretrain_script:
        words = [str((options.output_dir or Path()) / options.output)]
    if options.output_dir is not None:
        words += ["--output-dir", str(options.output_dir)]
    return "zoo train " + shlex.join([words[0], "--restart", str(result.checkpoint), *words[1:]])


def _document(result: "TrainResult") -> dict[str, Any]:
    """Return the result for `--json`; JSON has no nan, so that absent errors are null."""
    document = {
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
    if result.provenance:
        document["provenance"] = [item.document() for item in result.provenance.values()]
    return document


def register_train(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="train")(train)


def finetune(
    input_file: InputFile,
    model: Model,
    branch: PretrainedBranch = None,
    use_pretrain_script: PretrainScript = False,
    bias_mode: EnergyBias = None,
    freeze: Annotated[
        Literal["descriptor"] | None,
        typer.Option("--freeze", help="Train the fitting net alone."),
    ] = None,
    freeze_layers: Annotated[
        int | None,
        typer.Option(
            "--freeze-layers",
            metavar="N",
            min=0,
            help="Keep all before the repformer layers, and the first N of these.",
        ),
    ] = None,
    lr_scale: Annotated[
        list[str] | None,
        typer.Option(
            "--lr-scale",
            metavar="PART=FACTOR",
            help="Learning rate of a part over the schedule's: descriptor=0.1, repformer.0=0.01.",
        ),
    ] = None,
    layer_decay: Annotated[
        float,
        typer.Option(
            "--layer-decay",
            metavar="FACTOR",
            help="Factor of the learning rate from each repformer layer to the one before it.",
        ),
    ] = 1.0,
    output: NormalizedInput = Path("out.json"),
    output_dir: OutputFolder = None,
    force: Force = False,
    overrides: Overrides = None,
    device: TrainingDevice = None,
    as_json: AsJson = False,
    quiet: NoProgress = False,
) -> None:
    """Fine-tune a pretrained model; a table says where every part of the new one is from.

    Continue an interrupted run as any other: zoo train INPUT --restart CKPT.

    Example: zoo finetune input.json --model DPA2.pt --branch water --use-pretrain-script
    """
    from dpa2.training.optimizer import Tuning

    tuning = Tuning(freeze == "descriptor", freeze_layers, _factors(lr_scale or []), layer_decay)
    _run(
        read_start(
            finetune=model,
            branch=branch,
            use_pretrain_script=use_pretrain_script,
            bias_mode=bias_mode,
        ),
        RunOptions(
            input_file,
            output,
            overrides or [],
            device,
            as_json,
            quiet,
            tuning,
            output_dir,
            force,
        ),
    )


def _factors(given: Sequence[str]) -> dict[str, float]:
    """Return the factors of `--lr-scale`, by part."""
    found = {}
    for text in given:
        part, _, number = text.partition("=")
        try:
            found[part] = float(number)
        except ValueError:
            raise typer.BadParameter(f"--lr-scale {text}: write PART=FACTOR") from None
    return found


def register_finetune(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="finetune")(finetune)


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
    from dpa2.evaluate.learning_curve import (
        plot_learning_curves,
        read_learning_curve,
        terminal_learning_curve,
    )

    out = Output(json_mode=json_mode, quiet=quiet)
    curves = {}
    for entry in lcurves:
        name, file = split_name(entry)
        if (name or file) in curves:
            raise typer.BadParameter(f"two runs are called {name or file}")
        curves[name or file] = read_learning_curve(file)
    if output is not None:
        plot_learning_curves(curves, output)
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


def register_plot(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(plot)
