"""The three-body part of the initial representation (docs/deepmd-format.md, 3.7.1)."""

# Axes:  N centre atoms   K neighbour slots (twice: j, k)   C channels   T types
#        R = the four columns of the environment matrix

from typing import Optional

import torch
from torch import Tensor, nn

from dpa2.model.blocks import NeighborBlock
from dpa2.model.environment import environment_matrix
from dpa2.model.masks import filled, kept
from dpa2.model.statistics import EnvironmentStatistics
from dpa2.model.type_pairs import TypedEmbedding


class ThreeBody(nn.Module):
    """sum_jk c_jk G(c_jk, type_j, type_k) / nsel^2 with c_jk = n_ij . n_ik.

    Args:
        statistics: Normalisation, cutoffs and capacity.
        embedding: G.
        smooth: Whether tau is switched off at the cutoff in strip mode.
        protection: `env_protection`, Å.
        keep: (T, T) bool table of pairs that are not excluded, or None.
    """

    keep_TT: Optional[Tensor]

    def __init__(
        self,
        statistics: EnvironmentStatistics,
        embedding: TypedEmbedding,
        *,
        smooth: bool,
        protection: float,
        keep: Optional[Tensor],
    ) -> None:
        super().__init__()
        self.statistics = statistics
        self.embedding = embedding
        self.smooth = smooth
        self.protection = protection
        self.register_buffer("keep_TT", keep, persistent=False)
        # Empty slots contribute only if the mean of the directional columns is not 0, which
        # deepmd-kit's statistics never produce (set by `refresh`).
        self.needs_empty_slots = False

    def refresh(self) -> None:
        """Note what the current statistics imply; call after they change."""
        self.needs_empty_slots = bool((self.statistics.mean[..., 1:] != 0).any())

    def forward(self, block: NeighborBlock, table: Tensor, num_types: int) -> Tensor:
        """Return the representation (N, C) of a block's centres.

        Args:
            block: The centres and their neighbours.
            table: `self.embedding.table(...)`.
            num_types: Length of the type map.
        """
        K = block.width_three_body
        stats = self.statistics
        raw_NKR, w_NK, _ = environment_matrix(
            block.disp[:, :K], stats.rcut_smth, stats.rcut, self.protection
        )
        used_NK = filled(block.present, block.num_three_body, K)
        neighbor_types_NK = block.neighbor_types[:, :K]
        if self.needs_empty_slots:
            # A slot beyond this centre's own list is empty even where it holds a neighbour of the
            # wider list; deepmd-kit looks up `pad_types` there.
            raw_NKR = raw_NKR * used_NK.unsqueeze(-1)
            neighbor_types_NK = torch.where(
                used_NK, neighbor_types_NK, block.pad_types.unsqueeze(1)
            )
        w_NK = w_NK * used_NK
        env_NKR = stats(raw_NKR, block.types)
        keep_TT = self.keep_TT
        if keep_TT is not None:
            kept_NK = kept(keep_TT, block.types, neighbor_types_NK)
            if self.needs_empty_slots:
                kept_NK = kept_NK | ~used_NK
            env_NKR = env_NKR * kept_NK.unsqueeze(-1)
            w_NK = w_NK * kept_NK
        if not self.needs_empty_slots:
            env_NKR = env_NKR * used_NK.unsqueeze(-1)
        n_NK3 = env_NKR[..., 1:]
        c_NKK = torch.bmm(n_NK3, n_NK3.transpose(1, 2))
        pair_NKK = neighbor_types_NK.unsqueeze(2) * num_types + neighbor_types_NK.unsqueeze(1)
        switch: Optional[Tensor] = None
        if self.smooth:
            switch = (w_NK.unsqueeze(2) * w_NK.unsqueeze(1)).flatten()
        g_RC = self.embedding(c_NKK.flatten(), table.index_select(0, pair_NKK.flatten()), switch)
        g_NRC = g_RC.view(c_NKK.shape[0], K * K, g_RC.shape[-1])
        sum_N1C = torch.bmm(c_NKK.flatten(1).unsqueeze(1), g_NRC)
        return sum_N1C.squeeze(1) * (1.0 / (stats.nsel * stats.nsel))
