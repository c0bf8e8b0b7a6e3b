"""The sections on training: how long, on what data, what to write, how to validate."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
)
from pydantic_core import PydanticCustomError

from schemas.input.section import (
    NO_DEFAULT,
    Alias,
    Needs,
    Precision,
    Section,
    Seed,
    Usual,
    WrittenTo,
    list_or_single,
    unknown_choice,
)

BATCH_RULES = ("auto", "max", "filter", "mixed", "mix")
_BATCH_SIZE = re.compile(r"auto|(auto|max|filter|mixed|mix):[1-9]\d*")

PROBABILITY_STYLES = ("prob_sys_size", "prob_uniform")
_BLOCKS = "prob_sys_size;0:2:0.4;2:5:0.6"
_BLOCK = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*:\s*(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*")


def _known_batch_rule(text: str) -> str:
    if _BATCH_SIZE.fullmatch(text):
        return text
    name, colon, number = text.partition(":")
    if colon and name in BATCH_RULES:
        message = "`{value}`: after `{rule}:` comes a whole number of atoms, not `{number}`"
        context = {"value": text, "rule": name, "number": number, "hint": f'write "{name}:32"'}
        raise PydanticCustomError("form", message, context)
    raise unknown_choice("batch size", text, ["auto", "auto:N", "max:N", "filter:N", "mixed:N"])


def parse_blocks(style: str) -> list[tuple[int, int, float]]:
    """Return the blocks (first system, one past the last, weight) of `prob_sys_size;i:j:w;…`.

    Raises:
        ValueError: The text has another form.
    """
    blocks = []
    for part in style.split(";")[1:]:
        match = _BLOCK.fullmatch(part)
        if match is None:
            raise ValueError(part)
        blocks.append((int(match[1]), int(match[2]), float(match[3])))
    return blocks


def _known_probability(style: str) -> str:
    name, semicolon, _ = style.partition(";")
    if name not in PROBABILITY_STYLES or (semicolon and name != "prob_sys_size"):
        raise unknown_choice("way to weight systems", style, [*PROBABILITY_STYLES, _BLOCKS])
    try:
        parse_blocks(style)
    except ValueError as error:
        message = "`{part}` is not a block of systems"
        hint = f"a block is `first:end:weight`, such as {_BLOCKS}"
        raise PydanticCustomError("form", message, {"part": str(error), "hint": hint}) from error
    return style


AutoProb = Annotated[str, AfterValidator(_known_probability)]
"""How likely each system is: `prob_uniform`, `prob_sys_size`, or that with blocks of systems."""


def _kind_of_batch_size(value: Any) -> str:
    if isinstance(value, list):
        return "list"
    return "rule" if isinstance(value, str) else "number"


BatchSize = Annotated[
    Annotated[PositiveInt, Tag("number")]
    | Annotated[Annotated[str, AfterValidator(_known_batch_rule)], Tag("rule")]
    | Annotated[list[PositiveInt], Field(min_length=1), Tag("list")],
    Discriminator(_kind_of_batch_size),
]
"""Frames of a batch: a number, one for each system, or `auto[:N]`, `max:N`, `filter:N`."""

Systems = Annotated[
    Annotated[str, Field(min_length=1), Tag("single")]
    | Annotated[list[str], Field(min_length=1), Tag("list")],
    Discriminator(list_or_single),
]


class DataSection(Section):
    """What training and validation data have in common."""

    systems: Systems
    """Folders, `file.h5#/group` or one `.lmdb`; relative to the current folder."""
    rglob_patterns: list[str] | None = None
    """Glob patterns by which systems are searched below each folder."""
    batch_size: Annotated[BatchSize, Usual(high=100_000)] = "auto"
    """Frames of a batch: a number, a list with one for each system, or
    `auto` (at least 32 atoms), `auto:N` (at least N atoms), `max:N` (at most N atoms),
    `filter:N` (as max, without larger systems)."""
    auto_prob: Annotated[AutoProb, Alias("auto_prob_style")] = "prob_sys_size"
    """How likely each system is: `prob_uniform`, `prob_sys_size` (by number of batches), or
    `prob_sys_size;i:j:w;k:l:w2` (systems i to j-1 share the weight w)."""
    sys_probs: Annotated[list[float] | None, Alias("sys_weights")] = None
    """Probability of each system; a negative entry takes its share of the rest, by size."""


class TrainingData(DataSection):
    """The data from which the model learns."""

    min_pair_dist: Annotated[
        NonNegativeFloat, Usual(high=3, why="bonded atoms are closer: their frames are left out")
    ] = 0.0
    """Frames in which two atoms are closer than this are left out, in Å."""


class ValidationData(DataSection):
    """The data on which the model is judged while it learns."""

    numb_btch: Annotated[
        PositiveInt, Alias("numb_batch"), Usual(high=1000, why="each line of errors takes as long")
    ] = 1
    """Batches over which each displayed validation error is averaged."""


class MixedPrecision(Section):
    """Of the TensorFlow backend; ignored."""

    output_prec: Precision = "float32"
    """Ignored by deepmd-kit's PyTorch backend."""
    compute_prec: Precision
    """Ignored by deepmd-kit's PyTorch backend."""


class TaskData(Section):
    """The data of one task: of the only one, or of a branch."""

    training_data: TrainingData
    """The data from which the model learns."""
    validation_data: ValidationData | None = None
    """The data on which the model is judged while it learns."""
    stat_file: Annotated[str | None, NO_DEFAULT, WrittenTo("statistics")] = None
    """Where statistics of the data are kept for later runs."""
    stat_file_mode: Literal["update", "read"] = "update"
    """`update`: compute what is missing; `read`: use only what is there."""


class RunSettings(Section):
    """How long to train and what to write, whatever the number of tasks."""

    numb_steps: Annotated[
        NonNegativeInt | None,
        NO_DEFAULT,
        Alias("stop_batch", "num_step", "num_steps", "numb_step"),
        Usual(high=10**9, why="no run lives that long"),
    ] = None
    """Number of steps; either this or a number of epochs."""
    seed: Annotated[Seed, NO_DEFAULT] = None
    """Seed of the order in which data are drawn."""
    disp_file: Annotated[str, WrittenTo("file")] = "lcurve.out"
    """Where errors are written during training."""
    disp_freq: PositiveInt = 1000
    """Steps between two lines of `disp_file`."""
    save_freq: PositiveInt = 1000
    """Steps between two checkpoints."""
    save_dir: Annotated[str | None, WrittenTo("folder")] = None
    """Folder of the checkpoints."""
    save_ckpt: Annotated[str, Field(min_length=1), WrittenTo("prefix")] = "model.ckpt"
    """Beginning of the names of the checkpoints."""
    max_ckpt_keep: PositiveInt = 5
    """Number of checkpoints that are kept, the newest."""
    ckpt_keep_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of all checkpoints that is kept, the newest; instead of `max_ckpt_keep`."""
    enable_ema: bool = False
    """Keep a running mean of the parameters and save it too."""
    ema_decay: Annotated[float, Field(ge=0, lt=1), Needs("enable_ema")] = 0.999
    """Decay rate of that mean."""
    ema_ckpt_keep: Annotated[PositiveInt | None, Needs("enable_ema")] = None
    """Number of checkpoints of the running mean that are kept; null: `max_ckpt_keep`."""
    change_bias_after_training: bool = False
    """Fit the energy bias to the data once more after the last step."""
    disp_training: bool = True
    """Display errors during training."""
    time_training: bool = True
    """Display the time that steps take."""
    disp_avg: bool = False
    """Display training errors averaged over the steps since the last line."""
    profiling: bool = False
    """Record where the time goes."""
    profiling_file: Annotated[str, WrittenTo("file"), Needs("profiling")] = "timeline.json"
    """Where that record is written."""
    enable_profiler: bool = False
    """Record it for TensorBoard."""
    tensorboard: bool = False
    """Write errors for TensorBoard."""
    tensorboard_log_dir: Annotated[
        str, WrittenTo("new folder"), Needs("tensorboard", "enable_profiler")
    ] = "log"
    """Folder for TensorBoard."""
    tensorboard_freq: Annotated[PositiveInt, Needs("tensorboard")] = 1
    """Steps between two points in TensorBoard."""
    gradient_max_norm: Annotated[NonNegativeFloat | None, NO_DEFAULT, Usual(1e-4, 1e8)] = None
    """Largest norm of the gradient, to which larger ones are scaled down; 0 is no limit."""
    acc_freq: PositiveInt = 1
    """Ignored by deepmd-kit's PyTorch backend."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """How much is distributed over workers: nothing, optimiser, gradients, parameters."""
    mixed_precision: Annotated[MixedPrecision | None, NO_DEFAULT] = None
    """Ignored by deepmd-kit's PyTorch backend."""
    neighbor_graph_method: Literal["auto", "dense", "nv"] = "auto"
    """Ignored by deepmd-kit's PyTorch backend."""
    enable_compile: bool = False
    """Ignored by deepmd-kit's PyTorch backend."""
    enable_tf32: bool = False
    """Ignored by deepmd-kit's PyTorch backend."""


class Training(RunSettings, TaskData):
    """How long to train, on what, and what to write."""

    numb_epoch: Annotated[
        PositiveFloat | None,
        NO_DEFAULT,
        Alias("num_epoch", "num_epochs", "numb_epochs"),
        Usual(high=10**7, why="no run lives that long"),
    ] = None
    """Number of passes over the data; either this or `numb_steps`."""


METRICS = ("E:MAE", "E:RMSE", "F:MAE", "F:RMSE", "V:MAE", "V:RMSE")
"""By what a full validation may judge."""


def _known_metric(name: str) -> str:
    if name.strip().upper() in METRICS:
        return name
    raise unknown_choice("metric", name, METRICS)


_ON = Needs("full_validation", "ema_full_validation")


class Validating(Section):
    """When and how to validate on the whole of `validation_data`."""

    full_validation: bool = False
    """Validate on all of the validation data during training."""
    ema_full_validation: bool = False
    """Validate the running mean of the parameters too."""
    validation_freq: Annotated[PositiveInt, _ON] = 5000
    """Steps between two full validations."""
    save_best: Annotated[bool, _ON] = True
    """Keep the checkpoint with the smallest error."""
    save_best_dir: Annotated[str | None, _ON, Needs("save_best"), WrittenTo("folder")] = None
    """Folder of the best checkpoints."""
    max_best_ckpt: Annotated[PositiveInt, _ON, Needs("save_best")] = 1
    """Number of best checkpoints that are kept."""
    validation_metric: Annotated[str, AfterValidator(_known_metric), _ON] = "E:MAE"
    """By what the best is judged: `E`, `F` or `V`, a colon, `MAE` or `RMSE`."""
    full_val_file: Annotated[str, _ON, WrittenTo("file")] = "val.log"
    """Where the results are written."""
    full_val_start: Annotated[NonNegativeFloat, _ON] = 0.5
    """First step: below 1 a fraction of all steps, 1 is never, above 1 a step."""
    compiled_infer: bool = False
    """Ignored: a switch of another backend."""
    tf32_infer: bool = False
    """Ignored: a switch of another backend."""
    amp_infer: bool = False
    """Ignored: a switch of another backend."""
