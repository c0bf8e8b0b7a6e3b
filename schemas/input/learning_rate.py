"""Learning-rate schedules: exponential, cosine, warm-up-stable-decay."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from schemas.input.section import Needs, Section, Usual, by_type

DEFAULT_STOP_LR = 5e-8
"""The last learning rate when neither `stop_lr` nor `stop_lr_ratio` is given."""


class Schedule(Section):
    """What every schedule has: where it starts, where it stops, how it warms up."""

    start_lr: Annotated[PositiveFloat, Usual(1e-7, 0.05, "nothing is learned with such a rate")]
    """Learning rate after the warm-up."""
    stop_lr: Annotated[NonNegativeFloat | None, Usual(low=1e-12)] = None
    """Learning rate at the last step; without `stop_lr_ratio` the default is 5e-8."""
    stop_lr_ratio: Annotated[NonNegativeFloat | None, Usual(low=1e-9)] = None
    """The last learning rate as a fraction of `start_lr`; instead of `stop_lr`."""
    warmup_steps: NonNegativeInt = 0
    """Steps in which the learning rate rises linearly to `start_lr`."""
    warmup_ratio: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Usual(high=0.5, why="most of the run is warm-up"),
    ] = None
    """The warm-up as a fraction of all steps; instead of `warmup_steps`."""
    warmup_start_factor: Annotated[
        NonNegativeFloat,
        Usual(high=1, why="the rate falls in the warm-up"),
        Needs("warmup_steps", "warmup_ratio"),
    ] = 0.0
    """The first learning rate of the warm-up as a fraction of `start_lr`."""
    scale_by_worker: Literal["linear", "sqrt", "none"] = "linear"
    """Ignored by deepmd-kit's PyTorch backend."""

    @model_validator(mode="before")
    @classmethod
    def _default_stop(cls, data: Any) -> Any:
        keys = ("stop_lr", "stop_lr_ratio")
        if isinstance(data, dict) and all(data.get(key) is None for key in keys):
            return {**data, "stop_lr": DEFAULT_STOP_LR}
        return data

    @property
    def last_lr(self) -> float:
        """Learning rate at the last step."""
        if self.stop_lr is not None:
            return self.stop_lr
        assert self.stop_lr_ratio is not None
        return self.stop_lr_ratio * self.start_lr


class ExponentialDecay(Schedule):
    """Multiply the learning rate by a constant factor every `decay_steps` steps."""

    type: Literal["exp"] = "exp"
    """Which schedule this is."""
    decay_steps: PositiveInt = 5000
    """Steps between two decays."""
    decay_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The factor; by default the one that ends at the last learning rate."""
    smooth: bool = False
    """Decay a little at every step instead of all at once."""


class CosineDecay(Schedule):
    """Follow half a cosine from the first learning rate to the last."""

    type: Literal["cosine"]
    """Which schedule this is."""


class StableDecay(Schedule):
    """Stay at `start_lr`, then decay in the last part of the run (WSD)."""

    type: Literal["wsd"]
    """Which schedule this is."""
    decay_phase_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Fraction of all steps in which the learning rate decays."""
    decay_type: Literal["inverse_linear", "cosine", "linear"] = "inverse_linear"
    """Shape of the decay."""


SCHEDULES = ("exp", "cosine", "wsd")

LearningRate = Annotated[
    Annotated[ExponentialDecay, Tag("exp")]
    | Annotated[CosineDecay, Tag("cosine")]
    | Annotated[StableDecay, Tag("wsd")],
    by_type("exp"),
]
"""Any schedule, told apart by `type`."""
