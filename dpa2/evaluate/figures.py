"""Figures: colours, size, saving them whole or not at all; parity plots."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dpa2.evaluate.comparison import QUANTITIES, Comparison, error_stat
from schemas.base.errors import DataError
from schemas.base.writing import atomic_write

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


FloatArray = NDArray[np.float64]

_PANELS = ("energy_per_atom", "force", "virial_per_atom")
_MAX_POINTS = 50_000
_CROWD = 500


class ParityPlot:
    """Collects labels and predictions, and draws energies per atom, forces and virials per atom.

    Args:
        type_map: Element of each atom type; forces are coloured by it.
    """

    def __init__(self, type_map: Sequence[str]) -> None:
        self.type_map = tuple(type_map)
        self._chunks: dict[str, list[FloatArray]] = {key: [] for key in _PANELS}
        self._groups: dict[str, list[NDArray[np.int64]]] = {key: [] for key in _PANELS}

    def add(self, comparison: Comparison) -> None:
        """Remember some frames."""
        for key in _PANELS:
            pair = comparison.pairs.get(key)
            if pair is None:
                continue
            both = np.stack([pair.reference.ravel(), pair.prediction.ravel()])
            types = comparison.atom_types.repeat(3) if key == "force" else np.zeros(both.shape[1])
            good = np.isfinite(both).all(axis=0)  # bad frames have no place in a plot
            self._chunks[key].append(both[:, good])
            self._groups[key].append(types[good].astype(np.int64))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draw what was collected, one panel a quantity, with its errors.

        Raises:
            DataError: If the name ends in no image format.
        """
        keys = [key for key in _PANELS if self._chunks[key]]
        figure, panels = new_figure(max(1, len(keys)), width=4.2, height=4.4)
        for key, panel in zip(keys, panels, strict=False):
            both = np.concatenate(self._chunks[key], axis=1)
            self._draw(panel, key, both, np.concatenate(self._groups[key]))
        save_figure(figure, path)

    def _draw(self, panel: "Axes", key: str, both: FloatArray, groups: NDArray[np.int64]) -> None:
        quantity = QUANTITIES[key]
        unit = quantity.unit
        stat = error_stat(both[1] - both[0])
        stride = -(-both.shape[1] // _MAX_POINTS)
        if key == "energy_per_atom":
            # Total energies are large and arbitrary: what matters is how they differ.
            both = both - both[0].mean()
        size = 3 if both.shape[1] > _CROWD else 7
        for colour, group in enumerate(np.unique(groups)):
            dots = both[:, groups == group][:, ::stride]
            label = self.type_map[group] if key == "force" else None
            panel.plot(
                *dots,
                ".",
                ms=size,
                alpha=0.5,
                mew=0,
                color=COLOURS[colour % len(COLOURS)],
                label=label,
            )
        _diagonal(panel, both)
        panel.set_title(quantity.label)
        offset = " - mean label" if key == "energy_per_atom" else ""
        panel.set_xlabel(f"label{offset} ({unit})")
        panel.set_ylabel(f"prediction{offset} ({unit})")
        caption = f"RMSE {stat.rmse:.3g} {unit}\nMAE {stat.mae:.3g} {unit}"
        panel.text(0.04, 0.96, caption, transform=panel.transAxes, va="top", size=9)
        if key == "force":
            panel.legend(loc="lower right", markerscale=2, frameon=False)


def _diagonal(panel: "Axes", both: FloatArray) -> None:
    finite = both[np.isfinite(both)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    limits = (low - margin, high + margin)
    panel.plot(limits, limits, color=GREY, linewidth=1, zorder=0)
    panel.set(xlim=limits, ylim=limits)
    panel.set_box_aspect(1)
