"""`lcurve.out`, the table of losses that training writes."""

import os
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DataError
from schemas.special_files import read_text_file

# <metric>_val, <metric>_trn and, with several tasks, <metric>_val_<branch>
# (docs/deepmd-format.md, 6.5).
_COLUMN = re.compile(r"(?P<metric>.+?)_(?P<split>val|trn)(?:_(?P<branch>.+))?")


@dataclass(frozen=True, slots=True)
class Series:
    """One column of the table.

    Attributes:
        metric: What it measures: `rmse`, `rmse_e`, `rmse_f`, `rmse_v`, ...
        split: `val` or `trn`.
        branch: Branch of a multi-task model, empty for a single task.
        values: (R,), NaN where the data have no such label.
    """

    metric: str
    split: str
    branch: str
    values: NDArray[np.float64]

    @property
    def label(self) -> str:
        """What a legend calls it."""
        split = {"val": "validation", "trn": "training"}[self.split]
        return f"{self.branch} {split}".strip()


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The losses of a training run.

    Attributes:
        steps: (R,) steps, strictly increasing.
        series: The columns that hold at least one number, in the order of the file.
        learning_rate: (R,).
    """

    steps: NDArray[np.int64]
    series: list[Series]
    learning_rate: NDArray[np.float64]

    @property
    def metrics(self) -> list[str]:
        """The metrics in the order of the file."""
        return list(dict.fromkeys(series.metric for series in self.series))

    def of(self, metric: str) -> list[Series]:
        """Return the series of one metric."""
        return [series for series in self.series if series.metric == metric]


def read_learning_curve(path: str | os.PathLike[str]) -> LearningCurve:
    """Read an `lcurve.out` of this project or of deepmd-kit.

    A restarted run repeats the header, possibly with other columns, and repeats the steps after its
    checkpoint: the later rows replace the earlier ones. A last line cut off in writing is ignored.

    Raises:
        DataError: If the file is no learning curve, with the number of the first odd line.
    """
    try:
        lines = read_text_file(path, DataError).splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file", hint=_HINT) from error
    names: list[str] = []
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if words[:2] == ["#", "step"]:
            names = words[1:]
        if not words or words[0].startswith("#"):
            continue
        if not names:
            raise DataError(
                f"{path}:{number}: no header line `# step ...` before the first row", hint=_HINT
            )
        row = _parse_row(words, names)
        if row is None:
            if number == len(lines):
                break
            raise DataError(
                f"{path}:{number}: expected {len(names)} numbers ({' '.join(names)}), "
                f"found {line.strip()[:60]!r}",
                hint=_HINT,
            )
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: holds no rows yet" if names else f"{path}: empty", hint=_HINT)
    curve = _assemble(rows)
    if not curve.series:
        raise DataError(f"{path}: no column has an error (rmse_..., mae_...) in it", hint=_HINT)
    return curve


_MOST_STEPS = 2**53
"""Whole numbers up to here are what a float holds exactly."""
_HINT = "give the lcurve.out that training writes (training.disp_file in the input)"


def _parse_row(words: list[str], names: list[str]) -> dict[str, float] | None:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    if len(values) != len(names) or not 0 <= values[0] <= _MOST_STEPS:
        return None
    return dict(zip(names, values, strict=True))


def _assemble(rows: list[dict[str, float]]) -> LearningCurve:
    def column(name: str) -> NDArray[np.float64]:
        return np.array([row.get(name, np.nan) for row in rows])

    series = []
    for name in dict.fromkeys(name for row in rows for name in row):
        match = _COLUMN.fullmatch(name)
        values = column(name)
        if match is not None and not np.isnan(values).all():
            branch = match["branch"] or ""
            series.append(Series(match["metric"], match["split"], branch, values))
    return LearningCurve(column("step").astype(np.int64), series, column("lr"))
