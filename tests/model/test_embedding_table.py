"""Tables in place of repinit's embedding network."""

import warnings

import pytest
import torch

from dpa2.model.embedding_table import EmbeddingTable, Grid, jets, tabulate
from dpa2.model.layers import EmbeddingNetwork

GRID = Grid(lower=-1.0, upper=2.0, end=4.0, fine=0.01, coarse=0.1)
SMOOTH = ["tanh", "softplus", "sigmoid", "silu", "gelu", "linear"]


def network(activation="tanh", dtype=torch.float64, *, timestep=False):
    return EmbeddingNetwork(
        1, [3, 6, 12], activation=activation, timestep=timestep, dtype=dtype, seed=1
    )


@pytest.fixture(scope="module")
def table():
    return tabulate(network(), GRID)


def points(lower, upper, number=997):
    """Return points at none of which an interval begins."""
    return torch.linspace(lower, upper, number, dtype=torch.float64) + 1e-5


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("timestep", [False, True])
def test_a_table_is_the_network_with_value_and_slope(activation, timestep):
    net = network(activation, timestep=timestep)
    made = tabulate(net, GRID)
    for lower, upper, small in ((-1.0, 1.99, 1e-11), (2.0, 3.99, 1e-5)):
        s = points(lower, upper).requires_grad_(True)
        value, slope = jets(net, s, 1)
        assert (made(s) - value).abs().max() < small
        weights = torch.rand(12, dtype=torch.float64)
        (found,) = torch.autograd.grad((made(s) * weights).sum(), s)
        torch.testing.assert_close(found, slope @ weights, rtol=0, atol=100 * small)


def test_a_finer_table_is_closer_by_the_sixth_power():
    net, s = network(), points(-1.0, 1.99)
    wrong = [
        (tabulate(net, Grid(-1.0, 2.0, 4.0, fine, 1.0))(s) - jets(net, s, 1)[0]).abs().max()
        for fine in (0.2, 0.1)
    ]
    assert wrong[0] / wrong[1] > 2**5


def test_slopes_are_those_of_the_polynomials(table):
    # inside both parts, and on either side of the table
    s = torch.tensor([-1.5, -0.995, 0.123, 1.987, 2.04, 3.96, 4.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(table, s.requires_grad_(True), eps=1e-5)


def test_training_through_a_table_fails_loudly(table):
    s = torch.tensor([0.123], dtype=torch.float64, requires_grad=True)
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (force,) = torch.autograd.grad((table(s) * scale).sum(), s, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        force.backward()


@pytest.mark.parametrize(("edge", "step"), [(-1.0, -0.5), (4.0, 0.5)])
def test_beyond_the_table_it_goes_straight_on(table, edge, step):
    s = torch.tensor([edge], dtype=torch.float64)
    value, slope = jets(network(), s, 1)
    for distance in (step, 40 * step):
        expected = value + slope * distance
        torch.testing.assert_close(table(s + distance), expected, rtol=0, atol=1e-10)


def test_a_float32_table_is_that_of_float64_rounded():
    single = tabulate(network(dtype=torch.float32), GRID)
    assert single.coefficients.dtype == torch.float32
    s = points(-1.0, 3.99)
    exact, _ = jets(network(dtype=torch.float32).double(), s, 1)
    found = single(s.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_what_is_no_number_stays_none_and_no_rows_are_no_rows(table):
    s = torch.tensor([torch.nan, 0.5, torch.inf], dtype=torch.float64)
    assert table(s)[0].isnan().all()
    assert table(s)[1].isfinite().all()
    assert table(s[:0]).shape == (0, 12)


def test_the_program_is_the_same_in_torchscript(table):
    s = torch.linspace(-2, 5, 300, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.jit.script(table)
    assert torch.equal(program(s), table(s))


def test_a_step_that_does_not_divide_the_range_is_taken_as_deepmd_kit_takes_it():
    # Two intervals of 0.5 do not reach 1.25; what lies between is the first coarse interval's,
    # with the distance from the end of the second.
    grid = Grid(0.0, 1.25, 2.25, 0.5, 0.5)
    assert grid.counts() == (2, 2)
    coefficients = torch.rand(4, 2, 6, dtype=torch.float64)
    found = EmbeddingTable(grid, coefficients)(torch.tensor([1.125], dtype=torch.float64))
    expected = (coefficients[2] * torch.tensor(0.125, dtype=torch.float64) ** torch.arange(6)).sum(
        -1
    )
    torch.testing.assert_close(found[0], expected)
