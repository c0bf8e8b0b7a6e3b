"""A line chart made of characters, for people who train over ssh."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from rich.text import Text

_MARKS = "*o+x#@"
_UNICODE_MARKS = "●○◆◇■□"
_COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan")
_LABEL_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name in the legend and its values (R,); NaN and values <= 0 are not drawn."""

    label: str
    values: NDArray[np.float64]


def line_chart(
    x: ArrayLike, lines: Sequence[Line], *, width: int, height: int, unicode: bool = True
) -> "Text":
    """Draw positive values on a logarithmic axis as coloured text, `height` + 3 lines of `width`.

    Each curve has a mark and a colour of its own, so it can be told apart without colours too.
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
