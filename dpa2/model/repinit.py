"""Repinit: the first, wide-cutoff view of each atom's surroundings (docs/deepmd-format.md, 3.7)."""

# Axes:  N centre atoms   K neighbour slots   C channels   A axis channels   T types
#        R = the four columns of the environment matrix

from typing import Optional

import torch
from torch import Tensor, nn

from dpa2.model.blocks import NeighborBlock
from dpa2.model.environment import environment_matrix
from dpa2.model.masks import kept
from dpa2.model.statistics import EnvironmentStatistics
from dpa2.model.type_pairs import TypedEmbedding


class Repinit(nn.Module):
    """The smooth two-body representation D_i = M_i^T M_i[:, :A], M_i = sum_j R_ij G_ij / nsel.

    Args:
        statistics: Normalisation, cutoffs and capacity.
        embedding: G.
        num_axis: `axis_neuron`.
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
        num_axis: int,
        smooth: bool,
        protection: float,
        keep: Optional[Tensor],
    ) -> None:
        super().__init__()
        self.statistics = statistics
        self.embedding = embedding
        self.num_axis = num_axis
        self.smooth = smooth
        self.protection = protection
        self.register_buffer("keep_TT", keep, persistent=False)
        # With a zero mean, empty slots contribute nothing (set by `refresh`).
        self.has_mean = False
        # Slots that differ are evaluated one by one, the empty ones too (set by `refresh`).
        self.needs_empty_slots = False

    def refresh(self) -> None:
        """Note what the current statistics imply; call after they change."""
        self.has_mean = bool((self.statistics.mean != 0).any())
        self.needs_empty_slots = self.has_mean and self.statistics.per_slot()

    def forward(self, block: NeighborBlock, table: Tensor, num_types: int) -> Tensor:
        """Return the representation (N, C * A) of a block's centres.

        Args:
            block: The centres and their neighbours.
            table: `self.embedding.table(...)`.
            num_types: Length of the type map.
        """
        K = block.width_repinit
        stats = self.statistics
        raw_NKR, w_NK, _ = environment_matrix(
            block.disp[:, :K], stats.rcut_smth, stats.rcut, self.protection
        )
        used_NK = block.present[:, :K]
        keep_TT = self.keep_TT
        neighbor_types_NK = block.neighbor_types[:, :K]
        env_NKR = stats(raw_NKR, block.types)
        if keep_TT is not None:
            kept_NK = kept(keep_TT, block.types, neighbor_types_NK)
            used_NK = (kept_NK | ~used_NK) if self.needs_empty_slots else (kept_NK & used_NK)
        if keep_TT is not None or (self.has_mean and not self.needs_empty_slots):
            env_NKR = env_NKR * used_NK.unsqueeze(-1)
        pair_NK = neighbor_types_NK * num_types + block.types.unsqueeze(1)
        switch: Optional[Tensor] = None
        if self.smooth:
            switch = w_NK.flatten()
        g_RC = self.embedding(
            env_NKR[..., 0].flatten(), table.index_select(0, pair_NK.flatten()), switch
        )
        g_NKC = g_RC.view(env_NKR.shape[0], K, g_RC.shape[-1])
        m_NRC = torch.bmm(env_NKR.transpose(1, 2), g_NKC)
        if self.has_mean and not self.needs_empty_slots:
            m_NRC = m_NRC + self.empty_slots(block, table, num_types)
        m_NRC = m_NRC * (1.0 / stats.nsel)
        return torch.bmm(m_NRC.transpose(1, 2), m_NRC[..., : self.num_axis]).flatten(1)

    def empty_slots(self, block: NeighborBlock, table: Tensor, num_types: int) -> Tensor:
        """Return what deepmd-kit's empty slots add to M_i (N, 4, C), in closed form.

        All empty slots of a centre are alike: R = -mean / stddev, switch 0, and the type of the
        frame's first atom; so one evaluation per centre times their number.
        """
        env_NR = self.statistics.empty_slot().index_select(0, block.types)
        pair_N = block.pad_types * num_types + block.types
        switch: Optional[Tensor] = None
        if self.smooth:
            switch = torch.zeros_like(env_NR[:, 0])
        g_NC = self.embedding(env_NR[:, 0], table.index_select(0, pair_N), switch)
        num_N = (self.statistics.nsel - block.num_repinit).to(env_NR.dtype)
        return (num_N.unsqueeze(-1) * env_NR).unsqueeze(-1) * g_NC.unsqueeze(1)
