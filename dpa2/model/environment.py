"""The smooth switch, the environment matrix, and its mean and spread per centre type.

docs/deepmd-format.md, 3.3, 5.2; DPA-2 paper, eq. 3-5.
"""

import torch
from torch import Tensor, nn

# Axes:  N centre atoms   K neighbour slots   X = x, y, z
#        R = the four columns (s, s x/r, s y/r, s z/r) of the environment matrix


def smooth_switch(r_NK: Tensor, rcut_smth: float, rcut: float) -> Tensor:
    """Return w(r): 1 below `rcut_smth`, 0 beyond `rcut`, a quintic between (twice continuous)."""
    u = ((r_NK - rcut_smth) / (rcut - rcut_smth)).clamp(0.0, 1.0)
    return 1.0 + u * u * u * (u * (15.0 - 6.0 * u) - 10.0)


def environment_matrix(
    disp_NKX: Tensor, rcut_smth: float, rcut: float, protection: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the unnormalised environment matrix (N, K, 4), the switch (N, K) and r (N, K).

    Slots without a neighbour hold a displacement longer than every cutoff, so that their rows and
    switch vanish without a mask.
    """
    r_NK = torch.linalg.vector_norm(disp_NKX, dim=-1)
    w_NK = smooth_switch(r_NK, rcut_smth, rcut)
    inverse = 1.0 / (r_NK + protection)
    s_NK = w_NK * inverse
    direction = disp_NKX * (s_NK * inverse).unsqueeze(-1)
    return torch.cat([s_NK.unsqueeze(-1), direction], dim=-1), w_NK, r_NK


class EnvironmentStatistics(nn.Module):
    """The normalisation (R - mean) / stddev of one block's environment matrix.

    deepmd-kit stores a row per neighbour slot. Its statistics make all slots alike, and then one
    row per type is kept here (S = 1); files in which slots differ keep them all (S = nsel).

    Args:
        num_types: Length of the type map.
        cutoffs: Cutoff radius, and where the switch begins, Å.
        nsel: Neighbour capacity.
        set_davg_zero: Whether the mean stays 0 when statistics are computed.
        dtype: Of the buffers.
    """

    mean: Tensor
    stddev: Tensor

    def __init__(
        self,
        num_types: int,
        cutoffs: tuple[float, float],
        nsel: int,
        *,
        set_davg_zero: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.rcut, self.rcut_smth = cutoffs
        self.nsel = nsel
        self.set_davg_zero = set_davg_zero
        self.register_buffer("mean", torch.zeros(num_types, 1, 4, dtype=dtype))
        self.register_buffer("stddev", torch.ones(num_types, 1, 4, dtype=dtype))

    def forward(self, raw_NKR: Tensor, types_N: Tensor) -> Tensor:
        """Return the normalised matrix (N, K, 4) of centres of types `types_N`."""
        mean_TSR, scale_TSR = self.mean, self.stddev.reciprocal()
        if mean_TSR.shape[1] > 1:
            width = raw_NKR.shape[1]
            mean_TSR, scale_TSR = mean_TSR[:, :width], scale_TSR[:, :width]
        mean_NSR = mean_TSR.index_select(0, types_N)
        return (raw_NKR - mean_NSR) * scale_TSR.index_select(0, types_N)

    def empty_slot(self) -> Tensor:
        """Return the row (T, 4) that deepmd-kit's empty slots hold: -mean / stddev."""
        return (-self.mean / self.stddev)[:, 0]

    @torch.jit.unused
    def per_slot(self) -> bool:
        """Tell whether slots differ."""
        return self.mean.shape[1] > 1

    @torch.jit.unused
    def set_values(self, mean: Tensor, stddev: Tensor) -> None:
        """Store statistics of shape (T, 4), or (T, nsel, 4) as deepmd-kit's files hold them."""
        with torch.no_grad():
            mean, stddev = (
                (x if x.ndim == 3 else x.unsqueeze(1)).detach().to(self.mean.dtype)
                for x in (mean, stddev)
            )
            if all(bool((x == x[:, :1]).all()) for x in (mean, stddev)):
                mean, stddev = mean[:, :1], stddev[:, :1]
            self.mean = mean.to(self.mean.device).clone()
            self.stddev = stddev.to(self.stddev.device).clone()
