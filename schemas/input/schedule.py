"""Learning-rate schedules: warm-up, then exponential, cosine or warm-up-stable-decay.

Every value equals deepmd-kit 3.2's to the last bit (docs/deepmd-format.md, 6.1): the optimiser's
trajectory, the prefactors of the loss and the last column of `lcurve.out` all hang on it. That is
why the formulas go through numpy's array functions, whose `power` and `cos` may round differently
from `math`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.base.errors import ConfigError

Decay = Callable[[np.float64], Any]
"""Learning rate as a function of the number of steps since the end of the warm-up."""

_TOLERANCE = 1e-6
_SMALLEST_STOP_LR = 1e-10  # keeps the logarithm of the decay rate finite when stop_lr is 0


@dataclass(frozen=True)
class Schedule:
    """A learning rate as a function of the step.

    Attributes:
        start_lr: The rate at the end of the warm-up.
        num_steps: Steps of the whole training.
        warmup_steps: Steps of linear warm-up.
        warmup_start_lr: The rate at step 0 when there is a warm-up.
        decay: The rate after the warm-up.
    """

    start_lr: float
    num_steps: int
    warmup_steps: int
    warmup_start_lr: float
    decay: Decay

    def value(self, step: int) -> float:
        """Return the learning rate of a step (0 is the first)."""
        since_warmup = np.float64(step) - self.warmup_steps
        if self.warmup_steps and step < self.warmup_steps:
            progress = np.float64(step) / self.warmup_steps
            return float(self.warmup_start_lr + (self.start_lr - self.warmup_start_lr) * progress)
        return float(self.decay(np.maximum(since_warmup, 0.0)))

    def applied(self, step: int) -> float:
        """Return the rate that the optimiser sees: the base rate times a rounded factor."""
        return self.start_lr * (self.value(step) / self.start_lr)


def jump(schedule: Schedule, steps: int, last_rate: float) -> tuple[float, float] | None:
    """Return the rate of the last of `steps` steps as it was and as it is here; None if equal."""
    rate = schedule.applied(steps - 1)
    return None if np.isclose(rate, last_rate, rtol=_TOLERANCE, atol=0.0) else (last_rate, rate)


def build_schedule(config: Any, num_steps: int) -> Schedule:
    """Return the schedule of a checked `learning_rate` section.

    Args:
        config: The section (`schemas.input.optimization`).
        num_steps: Steps of the whole training, warm-up included.

    Raises:
        ConfigError: When the warm-up is not shorter than the training.
    """
    start_lr, ratio = float(config.start_lr), config.warmup_ratio
    stop_lr = float(config.last_lr)
    warmup_steps = int(config.warmup_steps) if ratio is None else int(ratio * num_steps)
    if warmup_steps and warmup_steps >= num_steps:
        raise ConfigError(
            f"the warm-up takes {warmup_steps} steps, but the training has only {num_steps}",
            hint="lower learning_rate.warmup_steps (or warmup_ratio), or raise training.numb_steps",
        )
    total = num_steps - warmup_steps
    if config.type == "exp":
        rate, smooth = config.decay_rate, config.smooth
        decay = exponential_decay(start_lr, stop_lr, total, config.decay_steps, rate, smooth=smooth)
    elif config.type == "cosine":
        decay = cosine_decay(start_lr, stop_lr, total)
    else:
        phase = max(1, min(int(config.decay_phase_ratio * num_steps), total))
        decay = stable_then_decay(start_lr, stop_lr, total, phase, config.decay_type)
    warmup_start_lr = config.warmup_start_factor * start_lr
    return Schedule(start_lr, num_steps, warmup_steps, warmup_start_lr, decay)


def exponential_decay(
    start_lr: float,
    stop_lr: float,
    total: int,
    decay_steps: int,
    decay_rate: float | None,
    *,
    smooth: bool,
) -> Decay:
    """Return lr = start_lr * rate^(t / decay_steps), never below stop_lr.

    Args:
        start_lr: Rate at t = 0.
        stop_lr: Lower limit; also fixes the rate when `decay_rate` is None.
        total: Steps over which the rate falls from `start_lr` to `stop_lr`.
        decay_steps: Steps between two decays. Not smaller than `total` and no `decay_rate`:
            replaced by a hundredth of `total` (100 at most), as deepmd-kit does.
        decay_rate: Factor of one decay, or None to reach `stop_lr` at the end.
        smooth: Decay at every step instead of every `decay_steps`.
    """
    if decay_rate is None and decay_steps >= total:
        decay_steps = 100 if total // 10 > 100 else total // 100 + 1
    if decay_rate is not None:
        rate = float(decay_rate)
    elif total == 0:
        rate = 1.0
    else:
        logarithm = np.log(max(stop_lr, _SMALLEST_STOP_LR) / start_lr)
        rate = float(np.exp(logarithm / (total / decay_steps)))

    def decay(step: np.float64) -> Any:
        exponent = step / decay_steps if smooth else step // decay_steps
        return np.maximum(start_lr * np.power(np.float64(rate), exponent), stop_lr)

    return decay


def cosine_decay(start_lr: float, stop_lr: float, total: int) -> Decay:
    """Return half a cosine from start_lr to stop_lr over `total` steps, then stop_lr."""
    floor = stop_lr / start_lr

    def decay(step: np.float64) -> Any:
        if total == 0:
            return start_lr
        if step >= total:
            return start_lr * floor
        wave = 1 + np.cos(np.float64(np.pi * (step / total)))
        return start_lr * (floor + 0.5 * (1 - floor) * wave)

    return decay


def stable_then_decay(
    start_lr: float, stop_lr: float, total: int, decay_phase: int, kind: str
) -> Decay:
    """Return start_lr until the last `decay_phase` of `total` steps, which fall to stop_lr.

    Args:
        start_lr: Rate of the stable phase.
        stop_lr: Rate at the end.
        total: Steps of the stable and the decaying phase together.
        decay_phase: Steps of the decaying phase.
        kind: `inverse_linear`, `cosine` or `linear`.
    """
    stable = total - decay_phase

    def decay(step: np.float64) -> Any:
        if step >= total:
            return stop_lr
        if step < stable:
            return start_lr
        progress = np.clip((step - stable) / np.float64(decay_phase), 0.0, 1.0)
        if kind == "inverse_linear":
            return 1.0 / (progress / stop_lr + (1.0 - progress) / start_lr)
        if kind == "cosine":
            wave = 1.0 + np.cos(np.float64(np.pi * progress))
            return stop_lr + (start_lr - stop_lr) * 0.5 * wave
        return start_lr + (stop_lr - start_lr) * progress

    return decay
