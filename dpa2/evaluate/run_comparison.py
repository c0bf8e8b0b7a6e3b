"""The learning curves of several runs in one figure."""

import os
from collections.abc import Mapping

import numpy as np

from dpa2.evaluate.figures import COLOURS, new_figure, save_figure
from dpa2.evaluate.learning_curve import LearningCurve, Series
from dpa2.evaluate.learning_curve_plot import TITLES


def plot_runs(curves: Mapping[str, LearningCurve], path: str | os.PathLike[str]) -> None:
    """Draw every metric that a run has over the steps, one colour a run, on logarithmic axes.

    The errors on validation data are drawn where a run has them, else those on training batches.

    Args:
        curves: The runs, by the name in the legend.
        path: The image.

    Raises:
        DataError: If the name ends in no image format.
    """
    metrics = list(dict.fromkeys(m for curve in curves.values() for m in curve.metrics))
    figure, panels = new_figure(len(metrics), width=3.6, height=3.2)
    for metric, panel in zip(metrics, panels, strict=True):
        for number, (name, curve) in enumerate(curves.items()):
            for series in shown(curve.of(metric)):
                panel.plot(
                    curve.steps,
                    np.where(series.values > 0, series.values, np.nan),
                    color=COLOURS[number % len(COLOURS)],
                    linewidth=1.2,
                    marker="o" if len(curve.steps) == 1 else "",
                    label=f"{name} {series.label}",
                )
        panel.set_title(TITLES.get(metric, metric))
        panel.set_xlabel("step")
        panel.set_yscale("log")
        panel.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def shown(series: list[Series]) -> list[Series]:
    """Return the columns on validation data, or all of them where there are none."""
    validation = [entry for entry in series if entry.split == "val"]
    return validation or series
