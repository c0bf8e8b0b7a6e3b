"""The smooth switch and the environment matrix.

docs/deepmd-format.md, 3.3; DPA-2 paper, eq. 3-5.
"""

# Axes:  N centre atoms   K neighbour slots   X = x, y, z
#        R = the four columns (s, s x/r, s y/r, s z/r) of the environment matrix

import torch
from torch import Tensor


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
