"""Lines of the training log, in deepmd-kit's wording (docs/deepmd-format.md, 6.6)."""

import datetime as dt
from collections.abc import Mapping


def errors_line(
    step: int, label: str, metrics: Mapping[str, float], learning_rate: float | None = None
) -> str:
    """Return `Batch 100: trn: rmse = ..., lr = ...`."""
    numbers = ", ".join(f"{name} = {value:8.2e}" for name, value in sorted(metrics.items()))
    rate = "" if learning_rate is None else f", lr = {learning_rate:8.2e}"
    return f"Batch {step:7d}: {label}: {numbers}{rate}"


def timing_line(step: int, seconds: float, remaining: dt.timedelta | None) -> str:
    """Return `Batch 100: total wall time = 3.21 s, eta = 0:01:30 at 2026-01-01 12:00`."""
    line = f"Batch {step:7d}: total wall time = {seconds:.2f} s"
    if remaining is None:
        return line
    end = dt.datetime.now().astimezone() + remaining
    return f"{line}, eta = {remaining} at {end:%Y-%m-%d %H:%M}"
