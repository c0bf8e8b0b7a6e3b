"""Compression: an embedding network of one input, replaced by a table of polynomials.

docs/deepmd-format.md, 11.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpa2.model.layers import EmbeddingNetwork

# Axes:  R rows (pairs of atoms)   C channels   I intervals   P = powers 0 to 5

NUM_POWERS = 6
# Intervals that no table has; numbers in files may ask for any.
MOST = 2**40
# Intervals that are tabulated at a time.
CHUNK = 4096


class Grid(NamedTuple):
    """Intervals of the input: fine ones where training data lie, coarse ones beyond.

    Attributes:
        lower: Where the table begins.
        upper: Where the coarse intervals begin.
        end: Where the table ends.
        fine: Width of the fine intervals.
        coarse: Width of the coarse intervals.
    """

    lower: float
    upper: float
    end: float
    fine: float
    coarse: float

    def counts(self) -> tuple[int, int]:
        """Return the numbers of fine and of coarse intervals, rounded down as deepmd-kit does."""
        fine, coarse = (self.upper - self.lower) / self.fine, (self.end - self.upper) / self.coarse
        return int(min(fine, MOST)), int(min(coarse, MOST))

    def starts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return where each interval begins and how wide it is, (I,) each."""
        num_fine, num_coarse = self.counts()
        fine = self.lower + torch.arange(num_fine, dtype=dtype) * self.fine
        coarse = self.upper + torch.arange(num_coarse, dtype=dtype) * self.coarse
        widths = torch.full((num_fine + num_coarse,), self.coarse, dtype=dtype)
        widths[:num_fine] = self.fine
        return torch.cat([fine, coarse]), widths


class EmbeddingTable(nn.Module):
    """G(s) from one polynomial an interval and channel; a straight line on either side of the grid.

    Args:
        grid: The intervals.
        coefficients: (I, C, P), of powers of the distance from the start of the interval.
    """

    coefficients: Tensor

    def __init__(self, grid: Grid, coefficients: Tensor) -> None:
        super().__init__()
        self.lower, self.upper, self.end, self.fine, self.coarse = grid
        self.num_fine, self.num_coarse = grid.counts()
        # A row a power, so that one weighted sum of rows is a polynomial of every channel.
        rows = coefficients.transpose(1, 2).flatten(0, 1).contiguous()
        self.register_buffer("coefficients", rows, persistent=False)

    @torch.jit.unused
    def grid(self) -> Grid:
        """Return the intervals."""
        return Grid(self.lower, self.upper, self.end, self.fine, self.coarse)

    @torch.jit.unused
    def in_file(self) -> Tensor:
        """Return the coefficients (I, C * P) as deepmd-kit's files hold them."""
        return self._coefficients().flatten(1)

    @torch.jit.unused
    def slope(self) -> "EmbeddingTable":
        """Return the table of dG/ds within the grid."""
        coefficients_ICP = torch.zeros_like(self._coefficients())
        numbers = torch.arange(1, NUM_POWERS)
        coefficients_ICP[..., :-1] = self._coefficients()[..., 1:] * numbers
        return EmbeddingTable(self.grid(), coefficients_ICP)

    @torch.jit.unused
    def _coefficients(self) -> Tensor:
        C = self.coefficients.shape[1]
        return self.coefficients.view(-1, NUM_POWERS, C).transpose(1, 2)

    def forward(self, s_R: Tensor) -> Tensor:
        """Return G (R, C) of `s_R` (R,). Forces can be computed; PyTorch refuses to train them."""
        x_R = s_R.detach()
        # Cut to the table as integers: not-a-number has no place in it, and stays one in G.
        fine_R = ((x_R - self.lower) / self.fine).to(torch.int64).clamp(0, self.num_fine)
        coarse_R = ((x_R - self.upper) / self.coarse).to(torch.int64).clamp(0, self.num_coarse - 1)
        is_fine_R = x_R < self.upper
        row_R = torch.where(is_fine_R, fine_R, self.num_fine + coarse_R)
        start_R = torch.where(
            is_fine_R,
            self.lower + fine_R.to(s_R.dtype) * self.fine,
            self.upper + coarse_R.to(s_R.dtype) * self.coarse,
        )
        within_R = s_R.clamp(self.lower, self.end)
        powers_RP = powers(within_R - start_R, s_R - within_R)
        P = powers_RP.shape[1]
        index_RP = row_R.unsqueeze(1) * P + torch.arange(P, device=row_R.device)
        return functional.embedding_bag(
            index_RP, self.coefficients, per_sample_weights=powers_RP, mode="sum"
        )


def powers(d_R: Tensor, beyond_R: Tensor) -> Tensor:
    """Return the powers (R, P) of `d_R`, and their straight continuation by `beyond_R`."""
    d2_R = d_R * d_R
    d3_R = d2_R * d_R
    d4_R = d2_R * d2_R
    return torch.stack(
        [
            torch.ones_like(d_R),
            d_R + beyond_R,
            d_R * (d_R + 2 * beyond_R),
            d2_R * (d_R + 3 * beyond_R),
            d3_R * (d_R + 4 * beyond_R),
            d4_R * (d_R + 5 * beyond_R),
        ],
        dim=1,
    )


def jets(network: EmbeddingNetwork, s_R: Tensor, order: int) -> list[Tensor]:
    """Return the value of a network of one input and its first `order` derivatives, (R, C) each."""
    s_R = s_R.detach().requires_grad_(True)
    found = [network(s_R.unsqueeze(-1))]
    for _ in range(order):
        # Weighted sums over channels are linear in the weights: differentiated by these, they give
        # the channels one by one.
        weights_RC = torch.zeros_like(found[-1], requires_grad=True)
        (sum_R,) = torch.autograd.grad(
            found[-1], s_R, weights_RC, create_graph=True, materialize_grads=True
        )
        found += torch.autograd.grad(
            sum_R.sum(), weights_RC, create_graph=True, materialize_grads=True
        )
    return [values_RC.detach() for values_RC in found]


def tabulate(network: EmbeddingNetwork, grid: Grid) -> EmbeddingTable:
    """Return the table that agrees with a network at the ends of all intervals.

    Value, first and second derivative agree there: two ends and three conditions make six
    coefficients.
    """
    exact = deepcopy(network).double()
    parts = []
    starts_I, widths_I = grid.starts(torch.float64)
    for k in range(0, len(starts_I), CHUNK):
        left_I, width_I = starts_I[k : k + CHUNK], widths_I[k : k + CHUNK]
        jets_RC = jets(exact, torch.cat([left_I, left_I + width_I]), 2)
        left, right = zip(*(jet_RC.chunk(2) for jet_RC in jets_RC), strict=True)
        parts.append(quintic(left, right, width_I.unsqueeze(1)))
    return EmbeddingTable(grid, torch.cat(parts).to(network.first.weight.dtype))


def quintic(left: tuple[Tensor, ...], right: tuple[Tensor, ...], width: Tensor) -> Tensor:
    """Return the coefficients (..., P) of the polynomial with given ends.

    Args:
        left: Value, first and second derivative at 0.
        right: The same at `width`.
        width: Of the interval.
    """
    # In units of the width; what the first three terms leave open at the right end is met by the
    # others, whose values and derivatives there are a 3 by 3 system.
    a0, a1, a2 = left[0], left[1] * width, left[2] * width * width / 2
    gap0 = right[0] - a0 - a1 - a2
    gap1 = right[1] * width - a1 - 2 * a2
    gap2 = right[2] * width * width / 2 - a2
    a3 = 10 * gap0 - 4 * gap1 + gap2
    a4 = -15 * gap0 + 7 * gap1 - 2 * gap2
    a5 = 6 * gap0 - 3 * gap1 + gap2
    scaled = (a / width**power for power, a in enumerate((a0, a1, a2, a3, a4, a5)))
    return torch.stack(list(scaled), dim=-1)
