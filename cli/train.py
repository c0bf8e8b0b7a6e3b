"""`zoo train`, `zoo finetune` and `zoo plot`: training runs and their learning curves."""

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from cli.options import Document, Model, Overrides, SkipNeighborStat, find_model, split_name
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.evaluate.learning_curve import LearningCurve
    from dpa2.training.optimizer import Tuning
    from dpa2.training.trainer import TrainResult
    from schemas.input.start import Start

InputFile = Annotated[Path, Argument(metavar="INPUT", help="Input file, JSON or YAML.")]
PretrainedBranch = Annotated[
    str | None,
    Option(
        "--branch",
        "--head",
        "--model-branch",
        metavar="NAME",
        help="Branch to start from: name or alias; RANDOM: its descriptor, a new fitting net.",
    ),
]
PretrainScript = Annotated[
    bool,
    Option(
        "--use-pretrain-script", help="Take the networks' sections of the input from the model."
    ),
]
BiasMode = Literal["change", "set", "none"]
EnergyBias = Annotated[
    BiasMode | None,
    Option(
        "--bias-mode",
        help="Energies of the elements: shifted by what the model leaves over, fitted anew, or "
        "left. Default: change; set for a random fitting net.",
    ),
]


@dataclass(frozen=True)
class TrainingStart:
    """What a training run starts from, as `StartOptions`."""

    restart: Annotated[
        str | None, Option("--restart", "-r", metavar="CKPT", help="Continue an interrupted run.")
    ] = None
    init_model: Annotated[
        str | None,
        Option(
            "--init-model",
            "-i",
            metavar="CKPT",
            callback=find_model,
            help="Start from these weights.",
        ),
    ] = None
    finetune: Annotated[
        str | None,
        Option(
            "--finetune",
            "-t",
            metavar="CKPT",
            callback=find_model,
            help="As zoo finetune --model CKPT.",
        ),
    ] = None
    branch: PretrainedBranch = None
    use_pretrain_script: PretrainScript = False


@dataclass(frozen=True)
class RunOptions:
    """Where a run writes, what it changes of its input, and where it computes."""

    output: Annotated[
        Path, Option("--output", "-o", help="Where the complete, normalised input goes.")
    ] = Path("out.json")
    output_dir: Annotated[
        Path | None,
        Option(
            "--output-dir",
            metavar="FOLDER",
            help="Where everything is written; default: the current folder.",
        ),
    ] = None
    force: Annotated[
        bool, Option("--force", help="Write over the files of another run in that folder.")
    ] = False
    overrides: Overrides = None
    device: Annotated[
        str | None, Option("--device", help="cpu or cuda; default: a GPU if there is one.")
    ] = None


@dataclass
class RunOutput(Output):
    """What a training run prints."""

    json_mode: Annotated[bool, Option("--json", help="Print the result as JSON on stdout.")] = False
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress, no log lines.")] = False


def train(
    *,
    input_file: InputFile,
    start: TrainingStart,
    skip_neighbor_stat: SkipNeighborStat = False,
    bias_mode: EnergyBias = None,
    options: RunOptions,
    out: RunOutput,
) -> None:
    """Train a model; interrupt with Ctrl-C at any time and continue with --restart."""
    given = {**asdict(start), "bias_mode": bias_mode}
    _run(out, input_file, given, options, skip_neighbor_stat=skip_neighbor_stat)


def finetune(
    *,
    input_file: InputFile,
    model: Model,
    branch: PretrainedBranch = None,
    use_pretrain_script: PretrainScript = False,
    bias_mode: EnergyBias = None,
    freeze: Annotated[
        Literal["descriptor"] | None, Option("--freeze", help="Train the fitting net alone.")
    ] = None,
    freeze_layers: Annotated[
        int | None,
        Option(
            "--freeze-layers",
            metavar="N",
            min=0,
            help="Keep all before the repformer layers, and the first N of these.",
        ),
    ] = None,
    lr_scale: Annotated[
        list[str] | None,
        Option(
            "--lr-scale",
            metavar="PART=FACTOR",
            help="Learning rate of a part over the schedule's: descriptor=0.1, repformer.0=0.01.",
        ),
    ] = None,
    layer_decay: Annotated[
        float,
        Option(
            "--layer-decay",
            metavar="FACTOR",
            help="Factor of the learning rate from each repformer layer to the one before it.",
        ),
    ] = 1.0,
    options: RunOptions,
    out: RunOutput,
) -> None:
    """Fine-tune a pretrained model; a table says where every part of the new one is from.

    Continue an interrupted run as any other: zoo train INPUT --restart CKPT.

    Example: zoo finetune input.json --model DPA2.pt --branch water --use-pretrain-script
    """
    from dpa2.training.optimizer import Tuning

    tuning = Tuning(freeze == "descriptor", freeze_layers, _factors(lr_scale or []), layer_decay)
    given = {
        "finetune": model,
        "branch": branch,
        "use_pretrain_script": use_pretrain_script,
        "bias_mode": bias_mode,
    }
    _run(out, input_file, given, options, tuning=tuning)


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


def _run(
    out: Output,
    input_file: Path,
    given: dict[str, Any],
    options: RunOptions,
    *,
    tuning: "Tuning | None" = None,
    skip_neighbor_stat: bool = False,
) -> None:
    """Check the input, and the checkpoint that it starts from, and train.

    Whether anyone reads what is printed makes no difference to the training.

    Args:
        out: What is printed.
        input_file: The input.
        given: Options that name the checkpoint to start from.
        options: Where the run writes and computes, and what it changes of the input.
        tuning: Which parts are trained, and how fast; None: all alike.
        skip_neighbor_stat: Refuse numbers of neighbours that are left to the data, and do not
            read all frames for the shortest distance.

    Raises:
        typer.Exit: With 1 when there are errors in the input, with 130 after an interruption.
    """
    from cli.input_check import read_start, without_neighbors
    from cli.render import refuse, show
    from schemas.base.terminal import lasting_output
    from schemas.check.input_file import check_file

    with lasting_output():
        start, faults = read_start(**given)
        report = check_file(input_file, options.overrides or [], start, folder=options.output_dir)
        report = report.extend(faults)
        if skip_neighbor_stat:
            report = without_neighbors(report)
        if report.config is None:
            refuse(report, out)
        show(report)

        from dpa2.formats.checkpoint import read_checkpoint
        from dpa2.training.run import run
        from dpa2.training.run_folder import RunFolder
        from dpa2.training.start import choose_start

        checkpoint = None if start is None else read_checkpoint(start.file)
        result = run(
            report.config,
            choose_start(
                report.config, start, checkpoint, tuning, searches_distance=not skip_neighbor_stat
            ),
            RunFolder(report.config, options.output_dir or Path(), str(options.output)),
            force=options.force,
            device=options.device,
            progress=not out.quiet,
        )
        out.result(_document(result))
        if result.stopped_by is not None:
            command = _continuation(input_file, start, options, result)
            out.info(
                f"{result.stopped_by}: stopped after {result.steps_done} of {result.num_steps} "
                f"steps; continue with\n  {command}"
            )
            raise typer.Exit(130)
        out.info(
            f"{result.steps_done} steps in {result.seconds:.1f} s; model: {result.checkpoint}; "
            f"learning curve: {result.curve}"
        )


def _continuation(
    input_file: Path, start: "Start | None", options: RunOptions, result: "TrainResult"
) -> str:
    """Return the command that continues; the input may lack what came from a pretrained model."""
    words = [str(input_file)]
    words += [part for change in options.overrides or [] for part in ("--set", change)]
    if start is not None and start.use_pretrain_script:
        words = [str((options.output_dir or Path()) / options.output)]
    if options.output_dir is not None:
        words += ["--output-dir", str(options.output_dir)]
    return "zoo train " + shlex.join([words[0], "--restart", str(result.checkpoint), *words[1:]])


def _document(result: "TrainResult") -> Document:
    """Return the result for `--json`; JSON has no nan, so that absent errors are null."""
    document = {
        "ok": result.stopped_by is None,
        "checkpoint": result.checkpoint,
        "learning_curve": result.curve,
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


def plot(
    *,
    lcurves: Annotated[
        list[str], Argument(metavar="[NAME=]LCURVE...", help="lcurve.out of one or several runs.")
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Image to write: .png, .pdf or .svg.")
    ] = None,
    out: Output,
) -> Document:
    """Draw the losses over the steps, from runs of this program or of deepmd-kit.

    Example: zoo plot lcurve.out -o curve.png
    Several: zoo plot scratch=a/lcurve.out tuned=b/lcurve.out -o curves.png
    """
    from dpa2.evaluate.learning_curve import (
        plot_learning_curves,
        read_learning_curve,
        terminal_learning_curve,
    )

    curves = {}
    for entry in lcurves:
        name, file = split_name(entry)
        if (name or file) in curves:
            raise typer.BadParameter(f"two runs are called {name or file}")
        curves[name or file] = read_learning_curve(file)
    if output is not None:
        plot_learning_curves(curves, output)
    if not out.json_mode and not out.quiet:
        console = out.console(stderr=False)
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        width = min(console.width, 100)
        for name, curve in curves.items():
            if len(curves) > 1:
                console.print(name)
            console.print(terminal_learning_curve(curve, width=width, unicode=unicode))
    if output is not None:
        out.info(f"wrote {output}")
    document = {"ok": True, "output": output}
    runs = [{"file": name, **_summary(curve)} for name, curve in curves.items()]
    return {**document, **runs[0]} if len(runs) == 1 else {**document, "runs": runs}


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
