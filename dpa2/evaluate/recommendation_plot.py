"""The errors of the branches as bars."""

import os

from dpa2.evaluate.figures import COLOURS, GREY, new_figure, save_figure
from dpa2.evaluate.recommendation import Recommendation
from schemas.errors import DataError


def plot_recommendation(recommendation: Recommendation, path: str | os.PathLike[str]) -> None:
    """Draw the RMSE of forces and energies of each branch, best first.

    Args:
        recommendation: From `recommend`.
        path: Image to write: .png, .pdf or .svg.

    Raises:
        DataError: If the name ends in no image format, or there is nothing to draw.
        WriteError: If the file cannot be written.
    """
    fits = [fit for fit in recommendation.branches if fit.problem is None]
    panels = [
        ("Force RMSE (eV/Å)", [fit.force_rmse for fit in fits]),
        ("Energy RMSE (eV/atom)", [fit.energy_rmse for fit in fits]),
    ]
    panels = [(label, values) for label, values in panels if any(v is not None for v in values)]
    if not panels:
        raise DataError("no errors to draw: give more frames with labels")
    figure, axes = new_figure(len(panels), width=4.5, height=1.2 + 0.3 * len(fits))
    for axis, (label, values) in zip(axes, panels, strict=True):
        colours = [COLOURS[0] if fit.is_covered else GREY for fit in fits]
        axis.barh(range(len(fits)), [value or 0.0 for value in values], color=colours)
        axis.set_yticks(range(len(fits)), [fit.branch for fit in fits])
        axis.invert_yaxis()
        axis.set_xlabel(label)
    if any(not fit.is_covered for fit in fits):
        figure.suptitle("grey: some elements of the data unknown", fontsize="small")
    save_figure(figure, path)
