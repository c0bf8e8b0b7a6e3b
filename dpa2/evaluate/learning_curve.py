"""`lcurve.out`, the table of losses that training writes: read, and drawn."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpa2.evaluate.figures import COLOURS, GREY, new_figure, save_figure
from schemas.base.errors import DataError
from schemas.base.foreign_files import read_text_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType
    from rich.text import Text


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
    """Return the numbers of a row by column; None where it is none."""
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


_MARKS = "*o+x#@"
_UNICODE_MARKS = "●○◆◇■□"
_COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan")
_LABEL_WIDTH = 8


def line_chart(
    x: ArrayLike, lines: Sequence[Series], *, width: int, height: int, unicode: bool = True
) -> "Text":
    """Draw positive values on a logarithmic axis as coloured text, `height` + 3 lines of `width`.

    NaN and values <= 0 are not drawn. Each curve has a mark and a colour of its own, so it can be
    told apart without colours too.
    """
    from rich.text import Text

    steps = np.asarray(x, dtype=np.float64)
    marks = _UNICODE_MARKS if unicode else _MARKS
    columns = max(width - _LABEL_WIDTH - 2, 10)
    drawn = np.concatenate([line.values[_drawable(line.values)] for line in lines])
    if drawn.size == 0:
        return Text("nothing to draw: no finite positive values")
    bottom, top = np.log10(drawn.min()), np.log10(drawn.max())
    grid: list[list[int | None]] = [[None] * columns for _ in range(height)]
    # The first curve (in deepmd-kit's order: validation) stays visible where curves overlap.
    for index, line in reversed(list(enumerate(lines))):
        for column, value in _resample(steps, line.values, columns):
            grid[_row(value, bottom, top, height)][column] = index

    text = Text(no_wrap=True)
    for row, cells in enumerate(grid):
        level = top - (top - bottom) * row / max(height - 1, 1)
        shown = f"{10.0**level:.2e}" if row in (0, height // 2, height - 1) else ""
        text.append(f"{shown:>{_LABEL_WIDTH}} {'│' if unicode else '|'}", style="dim")
        for cell in cells:
            if cell is None:
                text.append(" ")
            else:
                text.append(marks[cell % len(marks)], style=_COLOURS[cell % len(_COLOURS)])
        text.append("\n")
    corner, edge = ("└", "─") if unicode else ("+", "-")
    text.append(f"{'':{_LABEL_WIDTH}} {corner}{edge * columns}\n", style="dim")
    first, last = f"{steps[0]:.0f}", f"step {steps[-1]:.0f}"
    gap = max(columns - len(first) - len(last), 1)
    text.append(f"{'':{_LABEL_WIDTH}}  {first}{'':{gap}}{last}\n", style="dim")
    for index, line in enumerate(lines):
        finite = line.values[np.isfinite(line.values)]
        final = f"{finite[-1]:.2e}" if finite.size else "-"
        text.append(f"  {marks[index % len(marks)]} ", style=_COLOURS[index % len(_COLOURS)])
        text.append(f"{line.label} {final}")
    return text


def _drawable(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values > 0)


def _resample(
    steps: NDArray[np.float64], values: NDArray[np.float64], columns: int
) -> list[tuple[int, float]]:
    """Return a value for each column that has any: the geometric mean of its rows."""
    span = max(float(steps[-1] - steps[0]), 1.0)
    places = np.rint((steps - steps[0]) / span * (columns - 1)).astype(np.int64)
    usable = _drawable(values)
    return [
        (int(place), float(np.log10(values[usable & (places == place)]).mean()))
        for place in np.unique(places[usable])
    ]


def _row(value: float, bottom: float, top: float, height: int) -> int:
    if top == bottom:
        return height // 2
    return round((top - value) / (top - bottom) * (height - 1))


TITLES = {
    "rmse": "Loss, square root",
    "rmse_e": "Energy RMSE (eV/atom)",
    "rmse_f": "Force RMSE (eV/Å)",
    "rmse_v": "Virial RMSE (eV/atom)",
    "rmse_ae": "Atom energy RMSE (eV)",
    "rmse_pf": "Weighted force RMSE (eV/Å)",
    "rmse_gf": "Generalised force RMSE",
    "mae_e": "Energy MAE (eV/atom)",
    "mae_f": "Force MAE (eV/Å)",
    "mae_v": "Virial MAE (eV/atom)",
}
"""What a person calls the metrics of `lcurve.out`; others keep their name."""


def plot_learning_curves(curves: Mapping[str, LearningCurve], path: str | os.PathLike[str]) -> None:
    """Draw every metric that a run has over the steps, on logarithmic axes.

    Of one run all columns are drawn, and the learning rate beside them. Of several, one colour a
    run, the errors on validation data, or those on training batches where a run has no others.

    Args:
        curves: The runs, by the name in the legend.
        path: The image.

    Raises:
        DataError: If the name ends in no image format.
    """
    metrics = list(dict.fromkeys(m for curve in curves.values() for m in curve.metrics))
    alone = next(iter(curves.values())) if len(curves) == 1 else None
    figure, panels = new_figure(len(metrics) + (alone is not None), width=3.6, height=3.2)
    for metric, panel in zip(metrics, panels, strict=False):
        for number, (name, curve) in enumerate(curves.items()):
            of_metric = curve.of(metric)
            if alone is None:
                validation = [entry for entry in of_metric if entry.split == "val"]
                for entry in validation or of_metric:
                    _draw(panel, curve, entry, number, label=f"{name} {entry.label}")
                continue
            branches = list(dict.fromkeys(entry.branch for entry in of_metric))
            several = len(branches) > 1
            for entry in of_metric:
                # With one task, colours tell training from validation; with several, the branches.
                is_validation = entry.split == "val"
                colour = branches.index(entry.branch) if several else int(is_validation)
                _draw(panel, curve, entry, colour, dashed=several and is_validation)
        panel.set_title(TITLES.get(metric, metric))
        if alone is None or len(panel.get_lines()) > 1:
            panel.legend(frameon=False, fontsize="small")
    if alone is not None:
        panels[-1].plot(alone.steps, alone.learning_rate, color=GREY, marker=_marker(alone))
        panels[-1].set_title("Learning rate")
    for panel in panels:
        panel.set_yscale("log")
        panel.set_xlabel("step")
    save_figure(figure, path)


def _draw(
    panel: "Axes",
    curve: LearningCurve,
    series: Series,
    colour: int,
    *,
    dashed: bool = False,
    label: str | None = None,
) -> None:
    panel.plot(
        curve.steps,
        np.where(series.values > 0, series.values, np.nan),
        color=COLOURS[colour % len(COLOURS)],
        linestyle="--" if dashed else "-",
        linewidth=1.2,
        label=label or series.label,
        marker=_marker(curve),
    )


def _marker(curve: LearningCurve) -> str:
    """Return a dot where there is one row only: a line through one point is invisible."""
    return "o" if len(curve.steps) == 1 else ""


def terminal_learning_curve(
    curve: LearningCurve, *, width: int = 72, height: int = 10, unicode: bool = True
) -> "RenderableType":
    """Return a rich renderable: one panel a metric, drawn with characters.

    Args:
        curve: What to draw.
        width: Columns in all.
        height: Rows of each chart.
        unicode: Whether the terminal shows more than ASCII.
    """
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    panels = []
    for metric in curve.metrics:
        lines = curve.of(metric)
        chart = line_chart(curve.steps, lines, width=width - 4, height=height, unicode=unicode)
        title = TITLES.get(metric, metric)
        panels.append(
            Panel(
                chart,
                title=Text(title if unicode else title.replace("Å", "A")),
                title_align="left",
                width=width,
                box=box.ROUNDED if unicode else box.ASCII,
            )
        )
    return Group(*panels)
