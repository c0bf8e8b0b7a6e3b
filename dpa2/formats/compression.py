"""Compression of a model: a table is made of repinit's embedding network, and compared with it.

docs/deepmd-format.md, 11.
"""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from dpa2.formats.compressed import is_compressed
from dpa2.model.embedding_table import NUM_POWERS, EmbeddingTable, Grid, jets, tabulate
from dpa2.model.energy import EnergyModel
from dpa2.model.environment import EnvironmentStatistics, smooth_switch
from dpa2.model.layers import EmbeddingNetwork
from schemas.base.errors import ConversionError

# Axes:  R points   I intervals

_COARSE = 10
"""Times the step: width of the intervals beyond the training data."""
_STEPS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_POINTS = 8
"""Points of each interval at which the table is compared with the network."""
_CHUNK = 2**14
_MOST_BYTES = 2**28
_LEAST_EXTRAPOLATE = 2
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Tabulation:
    """How a model is compressed.

    Attributes:
        step: Width of an interval of the input s within the training data; ten times wider beyond.
        extrapolate: How many times the greatest input of the training data the table reaches.
        shortest: Shortest distance between two atoms of the training data, Å; None: as the model
            says.
    """

    step: float = 0.01
    extrapolate: int = 5
    shortest: float | None = None


@dataclass(frozen=True, slots=True)
class TableError:
    """The greatest difference between a table and its network, of all channels.

    Attributes:
        value: Of G.
        slope: Of dG/ds.
    """

    value: float
    slope: float


@dataclass(frozen=True, slots=True)
class Compression:
    """A table that was made.

    Attributes:
        shortest: Shortest distance between atoms that it is made for, Å.
        grid: Its intervals.
        num_intervals: How many these are.
        error: Between `grid.lower` and `grid.upper`, where the training data lie.
        error_beyond: From there to `grid.end`; then the table goes straight on.
    """

    shortest: float
    grid: Grid
    num_intervals: int
    error: TableError
    error_beyond: TableError


def compress(model: EnergyModel, wanted: Tabulation) -> Compression:
    """Put a table in place of repinit's embedding network, as `dp compress` does.

    Args:
        model: The model; changed.
        wanted: How.

    Raises:
        ConversionError: If it has no table; names the key, and what to do instead.
    """
    _check(model)
    shortest = _shortest(model, wanted)
    repinit = model.descriptor.repinit
    network = repinit.embedding.network
    grid = _grid(repinit.statistics, shortest, wanted)
    num_bytes = 8 * NUM_POWERS * sum(grid.counts()) * model.config.descriptor.repinit.neuron[-1]
    if num_bytes > _MOST_BYTES:
        raise ConversionError(
            f"the table would take {num_bytes / 1e9:.1f} GB: inputs reach {grid.upper:g} where "
            f"atoms are {shortest:g} Å apart",
            hint="a larger --step, a smaller --extrapolate, or data without overlapping atoms",
        )
    table = tabulate(network, grid)
    errors = [_largest_error(network, table, part) for part in _parts(grid)]
    repinit.embedding.lookup = table
    return Compression(shortest, grid, sum(grid.counts()), *errors)


def _check(model: EnergyModel) -> None:
    """Raise ConversionError for what cannot be compressed."""
    descriptor = model.config.descriptor
    if is_compressed(model):
        raise ConversionError(
            "this model is compressed already", hint="compress the model it was made from"
        )
    if descriptor.repinit.tebd_input_mode != "strip":
        raise ConversionError(
            "a model with model.descriptor.repinit.tebd_input_mode `concat` cannot be compressed: "
            "its embedding network sees types beside the distance",
            hint='train one with "tebd_input_mode": "strip"; weights cannot be turned into its',
        )
    if model.descriptor.dtype not in (torch.float32, torch.float64):
        raise ConversionError(
            f"a model with model.descriptor.precision {descriptor.precision} cannot be compressed",
            hint="add --dtype float32",
        )


def _shortest(model: EnergyModel, wanted: Tabulation) -> float:
    """Return the distance below which the table extrapolates, Å; the model then knows it."""
    shortest = float(model.min_nbor_dist) if wanted.shortest is None else wanted.shortest
    rcut = float(model.rcut)
    if not 0 < shortest < rcut:
        what = f"is {shortest:g} Å" if shortest > 0 else "is not known"
        raise ConversionError(
            f"the shortest distance between atoms of the training data {what}: the table must "
            f"reach from there to repinit.rcut ({rcut:g} Å)",
            hint="name the input whose data say it: --training-script input.json",
        )
    model.min_nbor_dist.fill_(shortest)
    return shortest


def _grid(statistics: EnvironmentStatistics, shortest: float, wanted: Tabulation) -> Grid:
    """Return the intervals that cover all inputs of pairs at least so far apart."""
    mean, stddev = statistics.mean[..., 0].double(), statistics.stddev[..., 0].double()
    distance = torch.tensor(shortest, dtype=torch.float64)
    largest = smooth_switch(distance, statistics.rcut_smth, statistics.rcut) / distance
    lower = math.floor(float((-mean / stddev).min()))
    upper = max(math.ceil(float(((largest - mean) / stddev).max())), 1)
    if wanted.extrapolate < _LEAST_EXTRAPOLATE:
        raise ConversionError(
            f"a table that reaches {wanted.extrapolate} times as far as the training data leaves "
            "no room for shorter distances",
            hint=f"--extrapolate {_LEAST_EXTRAPOLATE} or more",
        )

    def of(step: float) -> Grid:
        end = float(wanted.extrapolate * upper)
        return Grid(float(lower), float(upper), end, step, _COARSE * step)

    if wanted.step > 0 and _divides(of(wanted.step)):
        return of(wanted.step)
    fitting = ", ".join(str(step) for step in _STEPS if _divides(of(step)))
    raise ConversionError(
        f"the step {wanted.step:g} does not divide the table from {lower} to {upper}, and on to "
        f"{wanted.extrapolate * upper} in steps of ten times the size",
        hint=f"steps that do: {fitting}",
    )


def _divides(grid: Grid) -> bool:
    """Tell whether the intervals end where the parts of the table do, as deepmd-kit counts them."""
    exact = (grid.upper - grid.lower) / grid.fine, (grid.end - grid.upper) / grid.coarse
    counts = zip(exact, grid.counts(), strict=True)
    return all(number > 0 and abs(wanted - number) < _ROUNDING for wanted, number in counts)


def _parts(grid: Grid) -> tuple[Tensor, Tensor]:
    """Return points within all intervals, those of the training data and those beyond."""
    starts_I, widths_I = grid.starts(torch.float64)
    shifts = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS
    points = starts_I.unsqueeze(1) + widths_I.unsqueeze(1) * shifts
    num_fine, _ = grid.counts()
    return points[:num_fine].flatten(), points[num_fine:].flatten()


def _largest_error(
    network: EmbeddingNetwork, table: EmbeddingTable, points_R: Tensor
) -> TableError:
    exact, slope, dtype = deepcopy(network).double(), table.slope(), table.coefficients.dtype
    largest = [0.0, 0.0]
    for k in range(0, len(points_R), _CHUNK):
        points = points_R[k : k + _CHUNK].to(dtype)
        expected = jets(exact, points.double(), 1)
        found = (table(points), slope(points))
        wrong = [float((f - e).abs().max()) for f, e in zip(found, expected, strict=True)]
        largest = list(map(max, largest, wrong))
    return TableError(*largest)
