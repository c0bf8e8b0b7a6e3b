"""What all figures share: colours, size, and saving them whole or not at all."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.atomic import atomic_write
from schemas.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct for colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
GREY = "#888888"
_FORMATS = ("png", "pdf", "svg")


def figure_format(path: str | os.PathLike[str]) -> str:
    """Return the file format that a path asks for.

    Raises:
        DataError: If it is none that can be written.
    """
    suffix = Path(path).suffix.removeprefix(".").lower()
    if suffix not in _FORMATS:
        raise DataError(
            f"{path}: cannot tell which image format to write",
            hint="end the name in .png, .pdf or .svg",
        )
    return suffix


def new_figure(num_panels: int, *, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    """Return a figure of panels side by side; each is `width` x `height` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * num_panels, height), layout="constrained")
    axes = figure.subplots(1, num_panels, squeeze=False)[0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(visible=True, color=GREY, alpha=0.2, linewidth=0.5)
    return figure, list(axes)


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure in the format that its name asks for."""
    file_format = figure_format(path)
    with atomic_write(Path(path)) as stream:
        figure.savefig(stream, format=file_format, dpi=150)
