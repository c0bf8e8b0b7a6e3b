"""Learning curves as a figure and in the terminal."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dpa2.evaluate.figures import COLOURS, GREY, new_figure, save_figure
from dpa2.evaluate.learning_curve import LearningCurve, Series
from dpa2.evaluate.terminal_chart import Line, line_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

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


def plot_learning_curve(curve: LearningCurve, path: str | os.PathLike[str]) -> None:
    """Draw every metric over the steps on a logarithmic axis, and the learning rate beside them.

    Raises:
        DataError: If the name ends in no image format.
    """
    figure, panels = new_figure(len(curve.metrics) + 1, width=3.6, height=3.2)
    for metric, panel in zip(curve.metrics, panels, strict=False):
        series = curve.of(metric)
        _draw(panel, curve, series)
        panel.set_title(TITLES.get(metric, metric))
        if len(series) > 1:
            panel.legend(frameon=False, fontsize="small")
    panels[-1].plot(curve.steps, curve.learning_rate, color=GREY, marker=_marker(curve))
    panels[-1].set_title("Learning rate")
    for panel in panels:
        panel.set_yscale("log")
        panel.set_xlabel("step")
    save_figure(figure, path)


def _draw(panel: "Axes", curve: LearningCurve, series: Sequence[Series]) -> None:
    branches = list(dict.fromkeys(entry.branch for entry in series))
    for entry in series:
        # With one task, colours tell training from validation; with several, the branches.
        colour = branches.index(entry.branch) if len(branches) > 1 else int(entry.split == "val")
        panel.plot(
            curve.steps,
            np.where(entry.values > 0, entry.values, np.nan),
            color=COLOURS[colour % len(COLOURS)],
            linestyle="--" if len(branches) > 1 and entry.split == "val" else "-",
            linewidth=1.2,
            label=entry.label,
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
        lines = [Line(entry.label, entry.values) for entry in curve.of(metric)]
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
