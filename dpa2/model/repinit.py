"""Repinit, the first, wide-cutoff view of each atom's surroundings, and its three-body part.

docs/deepmd-format.md, 3.7.
"""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from dpa2.model.blocks import NeighborBlock, filled, kept
from dpa2.model.cutoffs import capacity
from dpa2.model.embedding_table import EmbeddingTable
from dpa2.model.environment import EnvironmentStatistics, environment_matrix
from dpa2.model.layers import EmbeddingNetwork, descend, dtype_of
from schemas.input.descriptor import Descriptor

# Axes:  N centre atoms   K neighbour slots (twice: j, k)   C channels   A axis channels   T types
#        R = the four columns of the environment matrix; in front of others, pairs or triples


class TypedEmbedding(nn.Module):
    """G(s, type a, type b) for pairs of atoms.

    concat: one network sees [s, T_a, T_b]. strip: one network sees s, a second sees [T_a, T_b] and
    scales the first, G = S + S * tau. Types enter through tables over type pairs: a table row is
    looked up per pair of atoms instead of being recomputed.

    Args:
        config: The descriptor's section.
        neuron: Widths of the network(s).
        one_side: Only type a is used.
        stream: Child of the descriptor's seed; the networks are its children 1 and 2.
    """

    def __init__(
        self, config: Descriptor, neuron: Sequence[int], *, one_side: bool, stream: int
    ) -> None:
        super().__init__()
        r = config.repinit

        def network(num_in: int, index: int) -> EmbeddingNetwork:
            return EmbeddingNetwork(
                num_in,
                list(neuron),
                activation=r.activation_function,
                timestep=r.resnet_dt,
                dtype=dtype_of(config.precision),
                seed=descend(config.seed, stream, index),
            )

        self.strip = r.tebd_input_mode == "strip"
        self.one_side = one_side
        num_types_in = r.tebd_dim if one_side else 2 * r.tebd_dim
        self.network = network(1 if self.strip else 1 + num_types_in, 1)
        self.type_network: Optional[EmbeddingNetwork] = None
        if self.strip:
            self.type_network = network(num_types_in, 2)
        self.by_tables = self.network.splits_first_layer()
        # Of a compressed model: evaluated instead of `network`, which has one input then.
        self.lookup: Optional[EmbeddingTable] = None

    def table(self, tebd_TC: Tensor) -> Tensor:
        """Return what types contribute, one row per ordered type pair a * T + b.

        concat: the first layer's sum without the geometric input (T * T, neuron[0]), or the raw
        inputs (T * T, 2 tebd) where a skip connection needs them. strip: tau (T * T, neuron[-1]).
        """
        num_types = tebd_TC.shape[0]
        first = tebd_TC.repeat_interleave(num_types, 0)
        second = tebd_TC.repeat(num_types, 1)
        inputs = first if self.one_side else torch.cat([first, second], dim=-1)
        type_network = self.type_network
        if type_network is not None:
            return type_network(inputs)
        if self.by_tables:
            return self.network.first_terms(inputs) + self.network.first_bias()
        return inputs

    def forward(self, scalar_R: Tensor, rows_RC: Tensor, switch_R: Optional[Tensor]) -> Tensor:
        """Return G (R, neuron[-1]).

        Args:
            scalar_R: (R,) the geometric input.
            rows_RC: (R, .) the row of `table` of each pair.
            switch_R: (R,) weight of tau in strip mode; None leaves tau as it is.
        """
        if self.strip:
            lookup = self.lookup
            if lookup is None:
                s_RC = self.network.from_first_sum(scalar_R, self.network.first_bias())
            else:
                s_RC = lookup(scalar_R)
            tau_RC = rows_RC if switch_R is None else rows_RC * switch_R.unsqueeze(-1)
            return torch.addcmul(s_RC, s_RC, tau_RC)
        if self.by_tables:
            return self.network.from_first_sum(scalar_R, rows_RC)
        return self.network(torch.cat([scalar_R.unsqueeze(-1), rows_RC], dim=-1))


class Repinit(nn.Module):
    """The smooth two-body representation D_i = M_i^T M_i[:, :A], M_i = sum_j R_ij G_ij / nsel.

    Args:
        config: The descriptor's section.
        num_types: Length of the type map.
        keep: (T, T) bool table of pairs that are not excluded, or None.
    """

    keep_TT: Optional[Tensor]

    def __init__(self, config: Descriptor, num_types: int, keep: Optional[Tensor]) -> None:
        super().__init__()
        r = config.repinit
        self.statistics = EnvironmentStatistics(
            num_types,
            (r.rcut, r.rcut_smth),
            capacity(r.nsel, "repinit.nsel"),
            set_davg_zero=r.set_davg_zero,
            dtype=dtype_of(config.precision),
        )
        self.embedding = TypedEmbedding(config, r.neuron, one_side=r.type_one_side, stream=0)
        self.num_axis = r.axis_neuron
        # Whether tau is switched off at the cutoff in strip mode.
        self.smooth = config.smooth
        self.protection = config.env_protection
        self.register_buffer("keep_TT", keep, persistent=False)
        # With a zero mean, empty slots contribute nothing (set by `refresh`).
        self.has_mean = False
        # Slots that differ are evaluated one by one, the empty ones too (set by `refresh`).
        self.needs_empty_slots = False

    def refresh(self) -> None:
        """Note what the current statistics imply; call after they change."""
        self.has_mean = bool((self.statistics.mean != 0).any())
        self.needs_empty_slots = self.has_mean and self.statistics.per_slot()

    def forward(
        self, block: NeighborBlock, disp_NKX: Tensor, table: Tensor, num_types: int
    ) -> Tensor:
        """Return the representation (N, C * A) of a block's centres.

        Args:
            block: The centres and their neighbours.
            disp_NKX: Their displacements, in the precision of the network.
            table: `self.embedding.table(...)`.
            num_types: Length of the type map.
        """
        K = block.width_repinit
        stats = self.statistics
        raw_NKR, w_NK, _ = environment_matrix(
            disp_NKX[:, :K], stats.rcut_smth, stats.rcut, self.protection
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


class ThreeBody(nn.Module):
    """sum_jk c_jk G(c_jk, type_j, type_k) / nsel^2 with c_jk = n_ij . n_ik.

    Args:
        config: The descriptor's section.
        num_types: Length of the type map.
        keep: (T, T) bool table of pairs that are not excluded, or None.
    """

    keep_TT: Optional[Tensor]

    def __init__(self, config: Descriptor, num_types: int, keep: Optional[Tensor]) -> None:
        super().__init__()
        r = config.repinit
        self.statistics = EnvironmentStatistics(
            num_types,
            (r.three_body_rcut, r.three_body_rcut_smth),
            capacity(r.three_body_sel, "repinit.three_body_sel"),
            set_davg_zero=r.set_davg_zero,
            dtype=dtype_of(config.precision),
        )
        self.embedding = TypedEmbedding(config, r.three_body_neuron, one_side=False, stream=5)
        # Whether tau is switched off at the cutoff in strip mode.
        self.smooth = config.smooth
        self.protection = config.env_protection
        self.register_buffer("keep_TT", keep, persistent=False)
        # Empty slots contribute only if the mean of the directional columns is not 0, which
        # deepmd-kit's statistics never produce (set by `refresh`).
        self.needs_empty_slots = False

    def refresh(self) -> None:
        """Note what the current statistics imply; call after they change."""
        self.needs_empty_slots = bool((self.statistics.mean[..., 1:] != 0).any())

    def forward(
        self, block: NeighborBlock, disp_NKX: Tensor, table: Tensor, num_types: int
    ) -> Tensor:
        """Return the representation (N, C) of a block's centres.

        Args:
            block: The centres and their neighbours.
            disp_NKX: Their displacements, in the precision of the network.
            table: `self.embedding.table(...)`.
            num_types: Length of the type map.
        """
        K = block.width_three_body
        stats = self.statistics
        raw_NKR, w_NK, _ = environment_matrix(
            disp_NKX[:, :K], stats.rcut_smth, stats.rcut, self.protection
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
