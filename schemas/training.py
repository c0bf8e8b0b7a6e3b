"""Training: how long, on what, how often something is written."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.data import TrainingData, ValidationData
from schemas.marks import Needs, Usual, WrittenTo
from schemas.network import Precision, Seed
from schemas.section import NO_DEFAULT, Alias, Section


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
