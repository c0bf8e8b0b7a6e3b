"""`zoo finetune`: start from a pretrained model's branch and train on one's own data."""

from pathlib import Path
from typing import Annotated

import typer

from cli.start import StartOptions
from cli.train import (
    AsJson,
    EnergyBias,
    InputFile,
    NoProgress,
    NormalizedInput,
    Overrides,
    PretrainedBranch,
    PretrainScript,
    RunOptions,
    TrainingDevice,
    run,
)


def finetune(
    input_file: InputFile,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="FILE", help="Checkpoint (.pt) to start from.")
    ],
    branch: PretrainedBranch = None,
    use_pretrain_script: PretrainScript = False,
    bias_mode: EnergyBias = None,
    output: NormalizedInput = Path("out.json"),
    overrides: Overrides = None,
    device: TrainingDevice = None,
    as_json: AsJson = False,
    quiet: NoProgress = False,
) -> None:
    """Fine-tune a pretrained model; a table says where every part of the new one is from.

    Continue an interrupted run as any other: zoo train INPUT --restart CKPT.

    Example: zoo finetune input.json --model DPA2.pt --branch water --use-pretrain-script
    """
    run(
        StartOptions(finetune=model, branch=branch, use_pretrain_script=use_pretrain_script),
        RunOptions(input_file, output, overrides or [], device, as_json, quiet, bias_mode),
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="finetune")(finetune)
