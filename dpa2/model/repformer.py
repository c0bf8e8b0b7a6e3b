"""The repformer: layers in which atoms and pairs update each other.

docs/deepmd-format.md, 3.8; DPA-2 paper, eq. 12-26.
"""

from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from dpa2.model.attention import (
    AttentionFactors,
    LocalAttention,
    PairAttention,
    PairGeometry,
    attention_factors,
    pair_geometry,
)
from dpa2.model.blocks import NeighborBlock, filled, kept
from dpa2.model.environment import EnvironmentStatistics, environment_matrix
from dpa2.model.layers import Activation, Linear, Seed, descend, generator


class Residual(nn.Module):
    """Combine [u0, u1, ..., uk]: res_avg, res_incr, or res_residual with learnt scales.

    Args:
        width: Length of each scale vector.
        seeds: Seed index of each update's scale, in deepmd-kit's order of registration.
        options: The repformer's options.
        seed: Seed of the layer.
    """

    def __init__(
        self, width: int, seeds: list[int], *, options: "RepformerOptions", seed: Seed
    ) -> None:
        super().__init__()
        self.style = options.update_style
        scales = []
        for index in seeds if self.style == "res_residual" else []:
            scale = torch.full([width], options.update_residual, dtype=options.dtype)
            if options.update_residual_init == "norm":
                scale.normal_(
                    0.0, options.update_residual, generator=generator(descend(seed, index))
                )
            scales.append(nn.Parameter(scale))
        self.scales = nn.ParameterList(scales)

    def forward(self, updates: List[Tensor]) -> Tensor:
        """Return the combination of `updates`, whose first entry is the feature itself."""
        result = updates[0]
        num_updates = len(updates) - 1
        if self.style == "res_residual":
            for k, scale in enumerate(self.scales):
                result = torch.addcmul(result, updates[k + 1], scale)
            return result
        factor = 1.0
        if self.style == "res_incr" and num_updates > 0:
            factor = 1.0 / num_updates**0.5
        for k in range(num_updates):
            result = torch.add(result, updates[k + 1], alpha=factor)
        if self.style == "res_avg":
            result = result * (1.0 / (num_updates + 1) ** 0.5)
        return result


# Axes:  N centre atoms   K neighbour slots   P pair channels (g2_dim)   A atom channels (g1_dim)
#        B axis channels   X = x, y, z


@dataclass(frozen=True)
class RepformerOptions:
    """The options of a repformer layer, named as in the input file (docs/deepmd-format.md, 1.4)."""

    g1_dim: int
    g2_dim: int
    axis_neuron: int
    update_g1_has_conv: bool
    update_g1_has_drrd: bool
    update_g1_has_grrg: bool
    update_g1_has_attn: bool
    update_g2_has_g1g1: bool
    update_g2_has_attn: bool
    update_h2: bool
    attn1_hidden: int
    attn1_nhead: int
    attn2_hidden: int
    attn2_nhead: int
    attn2_has_gate: bool
    activation_function: str
    update_style: str
    update_residual: float
    update_residual_init: str
    smooth: bool
    g1_out_conv: bool
    g1_out_mlp: bool
    ln_eps: float
    dtype: torch.dtype


class FoldedWeights(NamedTuple):
    """Products of weights that a layer uses for every block, computed once a pass."""

    query_key: Optional[Tensor]
    value: Optional[Tensor]


class RepformerLayer(nn.Module):
    """Update g1 from neighbours and, except in the last layer, g2 and h2.

    Args:
        options: The repformer's options.
        is_last: Whether g2 and h2 stay as they are.
        seed: Child [l, 1, 1] of the descriptor's seed.
    """

    def __init__(self, options: RepformerOptions, *, is_last: bool, seed: Seed) -> None:
        super().__init__()
        o = options
        self.has_conv = o.update_g1_has_conv
        self.has_drrd = o.update_g1_has_drrd
        self.has_grrg = o.update_g1_has_grrg
        self.conv_out = o.g1_out_conv
        self.mlp_out = o.g1_out_mlp
        self.smooth = o.smooth
        self.num_axis = o.axis_neuron
        self.has_gate = o.attn2_has_gate
        self.is_last = is_last
        self.activation = Activation(o.activation_function)
        A, P = o.g1_dim, o.g2_dim

        def linear(num_in: int, num_out: int, index: int, *, bias: bool = True) -> Linear:
            return Linear(num_in, num_out, bias=bias, dtype=o.dtype, seed=descend(seed, index))

        num_linear1 = (0 if o.g1_out_mlp else A) + (o.axis_neuron * P if self.has_grrg else 0)
        num_linear1 += o.axis_neuron * A if self.has_drrd else 0
        num_linear1 += P if self.has_conv and not o.g1_out_conv else 0
        self.linear1 = linear(num_linear1, A, 1)
        self.self_mlp: Optional[Linear] = linear(A, A, 15) if o.g1_out_mlp else None
        self.conv_map: Optional[Linear] = None
        if self.has_conv:
            self.conv_map = (
                linear(P, A, 4, bias=False) if o.g1_out_conv else linear(A, P, 4, bias=False)
            )
        self.local_attention: Optional[LocalAttention] = None
        if o.update_g1_has_attn:
            self.local_attention = LocalAttention(
                A, o.attn1_hidden, o.attn1_nhead, dtype=o.dtype, seed=descend(seed, 13)
            )
        self.linear2: Optional[Linear] = None
        self.atom_pair_map: Optional[Linear] = None
        self.pair_attention: Optional[PairAttention] = None
        self.updates_pairs_by_attention = False
        self.updates_vectors = False
        if not is_last:
            self.linear2 = linear(P, P, 2)
            if o.update_g2_has_g1g1:
                self.atom_pair_map = linear(A, P, 5, bias=False)
            self.updates_pairs_by_attention = o.update_g2_has_attn
            self.updates_vectors = o.update_h2
            if o.update_g2_has_attn or o.update_h2:
                self.pair_attention = PairAttention(
                    P,
                    o.attn2_hidden,
                    o.attn2_nhead,
                    with_pair_update=o.update_g2_has_attn,
                    with_vector_update=o.update_h2,
                    ln_eps=o.ln_eps,
                    dtype=o.dtype,
                    seed=seed,
                )
        self._build_residuals(o, seed)

    def _build_residuals(self, o: RepformerOptions, seed: Seed) -> None:
        # deepmd-kit seeds the vectors in this order but applies them by list position
        # (docs/deepmd-format.md, 3.8).
        g1_seeds = [0]
        if o.g1_out_mlp:
            g1_seeds.append(16)
        if self.has_conv and o.g1_out_conv:
            g1_seeds.append(17)
        if o.update_g1_has_attn:
            g1_seeds.append(14)
        g2_seeds: list[int] = []
        h2_seeds: list[int] = []
        if not self.is_last:
            g2_seeds = [3]
            if o.update_g2_has_g1g1:
                g2_seeds.append(6)
            if o.update_g2_has_attn:
                g2_seeds.append(10)
            if o.update_h2:
                h2_seeds = [12]
        self.g1_residual = Residual(o.g1_dim, g1_seeds, options=o, seed=seed)
        self.g2_residual = Residual(o.g2_dim, g2_seeds, options=o, seed=seed)
        self.h2_residual = Residual(1, h2_seeds, options=o, seed=seed)

    def fold(self) -> FoldedWeights:
        """Compute the weight products that all blocks share."""
        query_key: Optional[Tensor] = None
        value: Optional[Tensor] = None
        attention = self.pair_attention
        if attention is not None:
            query_key = attention.fold_query_key()
            if self.updates_pairs_by_attention:
                value = attention.fold_value()
        return FoldedWeights(query_key, value)

    def forward(
        self,
        g1_NA: Tensor,
        g1_NKA: Tensor,
        g2_NKP: Tensor,
        h2_NKX: Tensor,
        geometry: PairGeometry,
        factors: Optional[AttentionFactors],
        folded: FoldedWeights,
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Return the updated (g1 (N, A), g2 (N, K, P), h2 (N, K, 3)) of a block.

        Args:
            g1_NA: Features of the block's centres.
            g1_NKA: Features of their neighbours, before this layer.
            g2_NKP: Pair features.
            h2_NKX: Equivariant pair vectors.
            geometry: Weights and normalisations.
            factors: Attention factors shared by layers; None: computed here if needed.
            folded: `self.fold()`.
        """
        g1_new = self.update_atoms(g1_NA, g1_NKA, g2_NKP, h2_NKX, geometry)
        if self.is_last:
            return g1_new, g2_NKP, h2_NKX
        linear2 = self.linear2
        assert linear2 is not None
        updates: List[Tensor] = [g2_NKP, self.activation(linear2(g2_NKP))]
        atom_pair_map = self.atom_pair_map
        if atom_pair_map is not None:
            product = g1_NKA * g1_NA.unsqueeze(1)
            updates.append(atom_pair_map(product) * geometry.weight.unsqueeze(-1))
        vectors: List[Tensor] = [h2_NKX]
        attention = self.pair_attention
        if attention is not None:
            form = folded.query_key
            assert form is not None
            if factors is None:
                factors = attention_factors(
                    geometry, h2_NKX, attention.hidden, self.has_gate, self.smooth
                )
            weights = attention.weights(g2_NKP, form, factors)
            if self.updates_pairs_by_attention:
                value = folded.value
                assert value is not None
                updates.append(attention.pair_update(weights, g2_NKP, value))
            if self.updates_vectors:
                vectors.append(attention.vector_update(weights, h2_NKX))
        return g1_new, self.g2_residual(updates), self.h2_residual(vectors)

    def update_atoms(
        self,
        g1_NA: Tensor,
        g1_NKA: Tensor,
        g2_NKP: Tensor,
        h2_NKX: Tensor,
        geometry: PairGeometry,
    ) -> Tensor:
        """Return g1 (N, A) updated from the block's neighbourhoods."""
        P = g2_NKP.shape[-1]
        w_NK1 = geometry.weight.unsqueeze(-1)
        # One product sums everything that neighbours' g1 enters linearly: rows 0..P-1 for the
        # convolution, the last three for drrd.
        left_NKQ = torch.cat([g2_NKP, h2_NKX], dim=-1) * w_NK1
        sums_NQA = torch.bmm(left_NKQ.transpose(1, 2), g1_NKA)
        parts: List[Tensor] = []
        updates: List[Tensor] = [g1_NA]
        self_mlp = self.self_mlp
        if self_mlp is not None:
            updates.append(self.activation(self_mlp(g1_NA)))
        else:
            parts.append(g1_NA)
        conv_map = self.conv_map
        if conv_map is not None:
            if self.conv_out:
                conv = (sums_NQA[:, :P] * conv_map.weight).sum(dim=1) * geometry.conv_norm
                updates.append(conv)
            else:
                conv = (sums_NQA[:, :P] * conv_map.weight.t()).sum(dim=2) * geometry.conv_norm
                parts.append(conv)
        if self.has_grrg:
            h_NXP = torch.bmm(left_NKQ[..., P:].transpose(1, 2), g2_NKP)
            parts.append(self.symmetrise(h_NXP * geometry.norm))
        if self.has_drrd:
            parts.append(self.symmetrise(sums_NQA[:, P:] * geometry.norm))
        updates.append(self.activation(self.linear1(torch.cat(parts, dim=-1))))
        local_attention = self.local_attention
        if local_attention is not None:
            updates.append(local_attention(g1_NA, g1_NKA, geometry, self.smooth))
        return self.g1_residual(updates)

    def symmetrise(self, h_NXC: Tensor) -> Tensor:
        """Return the rotation-invariant S = H[:, :B]^T H / 3 (N, B * C)."""
        axis_NXB = h_NXC[..., : self.num_axis]
        return (torch.bmm(axis_NXB.transpose(1, 2), h_NXC) * (1.0 / 3.0)).flatten(1)


def vectors_per_channel(g2_NKP: Tensor, h2_NKX: Tensor, geometry: PairGeometry) -> Tensor:
    """Return H^T (N, P, 3): the rotation matrix that dipole and polarisability nets use."""
    weighted_NKX = h2_NKX * geometry.weight.unsqueeze(-1)
    return torch.bmm(g2_NKP.transpose(1, 2), weighted_NKX) * geometry.norm


# Axes:  N centre atoms of a block   M atoms of the table that neighbours index   K slots
#        P pair channels (g2_dim)   A atom channels (g1_dim)   X = x, y, z


class Repformer(nn.Module):
    """Layers that update atom (g1) and pair (g2, h2) features.

    Args:
        statistics: Normalisation, cutoffs and capacity.
        options: Of every layer.
        num_layers: `nlayers`.
        use_sqrt: `use_sqrt_nnei`.
        direct_dist: Use r / rcut and d / rcut instead of the environment matrix.
        protection: `env_protection`, Å.
        keep: (T, T) bool table of pairs that are not excluded, or None.
        seed: Child 1 of the descriptor's seed.
    """

    keep_TT: Optional[Tensor]

    def __init__(
        self,
        statistics: EnvironmentStatistics,
        options: RepformerOptions,
        *,
        num_layers: int,
        use_sqrt: bool,
        direct_dist: bool,
        protection: float,
        keep: Optional[Tensor],
        seed: Seed,
    ) -> None:
        super().__init__()
        self.statistics = statistics
        self.use_sqrt = use_sqrt
        self.direct_dist = direct_dist
        self.protection = protection
        self.smooth = options.smooth
        self.has_gate = options.attn2_has_gate
        self.attn2_hidden = options.attn2_hidden
        self.register_buffer("keep_TT", keep, persistent=False)
        self.activation = Activation(options.activation_function)
        self.pair_embedding = Linear(1, options.g2_dim, dtype=options.dtype, seed=descend(seed, 0))
        self.layers = nn.ModuleList(
            RepformerLayer(options, is_last=k == num_layers - 1, seed=descend(seed, 1, k))
            for k in range(num_layers)
        )
        # h2 never changes: one set of attention factors serves all layers.
        self.shares_factors = (
            options.update_g2_has_attn and not options.update_h2 and num_layers > 1
        )
        # Smooth attention counts empty slots, so a block must keep one (see `empty_slot_shift`).
        self.needs_empty_slot = options.smooth and (
            options.update_g1_has_attn or options.update_g2_has_attn or options.update_h2
        )

    def start(self, block: NeighborBlock) -> tuple[PairGeometry, Tensor]:
        """Return the geometric factors of a block, h2 (N, K, 3) among them, and the initial g2.

        Returns:
            The factors that all layers use, and g2 (N, K, P).
        """
        K = block.width_repformer
        stats = self.statistics
        used_NK = filled(block.present, block.num_repformer, K)
        keep_TT = self.keep_TT
        if keep_TT is not None:
            used_NK = used_NK & kept(keep_TT, block.types, block.neighbor_types[:, :K])
        disp_NKX = block.disp[:, :K]
        raw_NKR, w_NK, r_NK = environment_matrix(
            disp_NKX, stats.rcut_smth, stats.rcut, self.protection
        )
        if self.direct_dist:
            radial_NK = r_NK * (1.0 / stats.rcut)
            h2_NKX = disp_NKX * (1.0 / stats.rcut)
        else:
            environment_NKR = stats(raw_NKR, block.types)
            radial_NK = environment_NKR[..., 0]
            h2_NKX = environment_NKR[..., 1:]
        geometry = pair_geometry(h2_NKX, w_NK, used_NK, stats.nsel, self.smooth, self.use_sqrt)
        return geometry, self.first_pairs(radial_NK)

    def first_pairs(self, radial_NK: Tensor) -> Tensor:
        """Return the initial pair features g2 (N, K, P) of the radial part of the environment."""
        layer = self.pair_embedding
        bias = layer.bias
        assert bias is not None
        g2_NKP = torch.addcmul(bias, radial_NK.unsqueeze(-1), layer.weight[0])
        return self.activation(g2_NKP)

    def shared_factors(self, geometry: PairGeometry) -> Optional[AttentionFactors]:
        """Return the attention factors that all layers share, if they do."""
        if not self.shares_factors:
            return None
        return attention_factors(
            geometry, geometry.h2, self.attn2_hidden, self.has_gate, self.smooth
        )
