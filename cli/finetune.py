"""`zoo finetune`: start from a pretrained model's branch and train on one's own data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import Model
from cli.start import StartOptions
from cli.train import (
    AsJson,
    EnergyBias,
    Force,
    InputFile,
    NoProgress,
    NormalizedInput,
    OutputFolder,
    Overrides,
    PretrainedBranch,
    PretrainScript,
    RunOptions,
    TrainingDevice,
    run,
)


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
    from dpa2.finetune.tuning import Tuning

    tuning = Tuning(freeze == "descriptor", freeze_layers, _factors(lr_scale or []), layer_decay)
    run(
        StartOptions(
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


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="finetune")(finetune)
