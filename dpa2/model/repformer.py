"""The repformer: layers in which atoms and pairs update each other.

docs/deepmd-format.md, 3.8; DPA-2 paper, eq. 12-26.
"""

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
from dpa2.model.cutoffs import capacity
from dpa2.model.environment import EnvironmentStatistics, environment_matrix
from dpa2.model.layers import Activation, Linear, Seed, descend, dtype_of, generator
from schemas.input.descriptor import Descriptor

# Axes:  N centre atoms of a block   M atoms of the table that neighbours index   K neighbour slots
#        P pair channels (g2_dim)   A atom channels (g1_dim)   B axis channels   X = x, y, z


class Residual(nn.Module):
    """Combine [u0, u1, ..., uk]: res_avg, res_incr, or res_residual with learnt scales.

    Args:
        width: Length of each scale vector.
        seeds: Seed index of each update's scale, in deepmd-kit's order of registration.
        config: The descriptor's section.
        seed: Seed of the layer.
    """

    def __init__(self, width: int, seeds: list[int], config: Descriptor, seed: Seed) -> None:
        super().__init__()
        r, dtype = config.repformer, dtype_of(config.precision)
        self.style: str = r.update_style
        scales = []
        for index in seeds if self.style == "res_residual" else []:
            scale = torch.full([width], r.update_residual, dtype=dtype)
            if r.update_residual_init == "norm":
                random = generator(descend(seed, index))
                scale.normal_(0.0, r.update_residual, generator=random)
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


class FoldedWeights(NamedTuple):
    """Products of weights that a layer uses for every block, computed once a pass."""

    query_key: Optional[Tensor]
    value: Optional[Tensor]


class RepformerLayer(nn.Module):
    """Update g1 from neighbours and, except in the last layer, g2 and h2.

    Args:
        config: The descriptor's section.
        is_last: Whether g2 and h2 stay as they are.
        seed: Child [l, 1, 1] of the descriptor's seed.
    """

    def __init__(self, config: Descriptor, *, is_last: bool, seed: Seed) -> None:
        super().__init__()
        r, dtype = config.repformer, dtype_of(config.precision)
        self.has_drrd = r.update_g1_has_drrd
        self.has_grrg = r.update_g1_has_grrg
        self.conv_out = r.g1_out_conv
        self.smooth = config.smooth
        self.num_axis = r.axis_neuron
        self.has_gate = r.attn2_has_gate
        self.is_last = is_last
        self.updates_pairs_by_attention = r.update_g2_has_attn and not is_last
        self.updates_vectors = r.update_h2 and not is_last
        self.activation = Activation(r.activation_function)
        A, P = r.g1_dim, r.g2_dim

        def linear(num_in: int, num_out: int, index: int, *, bias: bool = True) -> Linear:
            return Linear(num_in, num_out, bias=bias, dtype=dtype, seed=descend(seed, index))

        num_linear1 = (0 if r.g1_out_mlp else A) + (r.axis_neuron * P if self.has_grrg else 0)
        num_linear1 += r.axis_neuron * A if self.has_drrd else 0
        num_linear1 += P if r.update_g1_has_conv and not r.g1_out_conv else 0
        self.linear1 = linear(num_linear1, A, 1)
        self.self_mlp: Optional[Linear] = linear(A, A, 15) if r.g1_out_mlp else None
        self.conv_map: Optional[Linear] = None
        if r.update_g1_has_conv:
            self.conv_map = linear(*((P, A) if r.g1_out_conv else (A, P)), 4, bias=False)
        self.local_attention: Optional[LocalAttention] = None
        if r.update_g1_has_attn:
            self.local_attention = LocalAttention(config, descend(seed, 13))
        self.linear2: Optional[Linear] = None
        self.atom_pair_map: Optional[Linear] = None
        self.pair_attention: Optional[PairAttention] = None
        if not is_last:
            self.linear2 = linear(P, P, 2)
            if r.update_g2_has_g1g1:
                self.atom_pair_map = linear(A, P, 5, bias=False)
            if r.update_g2_has_attn or r.update_h2:
                self.pair_attention = PairAttention(config, seed)
        # deepmd-kit seeds the scales in this order but applies them by list position
        # (docs/deepmd-format.md, 3.8).
        g1_updates = {
            0: True,
            16: r.g1_out_mlp,
            17: r.update_g1_has_conv and r.g1_out_conv,
            14: r.update_g1_has_attn,
        }
        g2_updates = {3: True, 6: r.update_g2_has_g1g1, 10: r.update_g2_has_attn}
        self.g1_residual = Residual(A, _seeds(g1_updates), config, seed)
        self.g2_residual = Residual(P, [] if is_last else _seeds(g2_updates), config, seed)
        self.h2_residual = Residual(1, [12] if self.updates_vectors else [], config, seed)

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
        # Split, not sliced: slices are differentiated by filling zeros.
        sums_NPA, sums_NXA = torch.split(sums_NQA, [P, 3], dim=1)
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
                conv = (sums_NPA * conv_map.weight).sum(dim=1) * geometry.conv_norm
                updates.append(conv)
            else:
                conv = (sums_NPA * conv_map.weight.t()).sum(dim=2) * geometry.conv_norm
                parts.append(conv)
        if self.has_grrg:
            h_NXP = torch.bmm((h2_NKX * w_NK1).transpose(1, 2), g2_NKP)
            parts.append(self.symmetrise(h_NXP * geometry.norm))
        if self.has_drrd:
            parts.append(self.symmetrise(sums_NXA * geometry.norm))
        updates.append(self.activation(self.linear1(torch.cat(parts, dim=-1))))
        local_attention = self.local_attention
        if local_attention is not None:
            updates.append(local_attention(g1_NA, g1_NKA, geometry))
        return self.g1_residual(updates)

    def symmetrise(self, h_NXC: Tensor) -> Tensor:
        """Return the rotation-invariant S = H[:, :B]^T H / 3 (N, B * C)."""
        axis_NXB = h_NXC[..., : self.num_axis]
        return (torch.bmm(axis_NXB.transpose(1, 2), h_NXC) * (1.0 / 3.0)).flatten(1)


def _seeds(updates: dict[int, bool]) -> list[int]:
    """Return the keys of the updates that a layer has."""
    return [index for index, exists in updates.items() if exists]


class Repformer(nn.Module):
    """Layers that update atom (g1) and pair (g2, h2) features.

    Args:
        config: The descriptor's section.
        num_types: Length of the type map.
        keep: (T, T) bool table of pairs that are not excluded, or None.
    """

    keep_TT: Optional[Tensor]

    def __init__(self, config: Descriptor, num_types: int, keep: Optional[Tensor]) -> None:
        super().__init__()
        r, dtype, seed = config.repformer, dtype_of(config.precision), descend(config.seed, 1)
        self.statistics = EnvironmentStatistics(
            num_types,
            (r.rcut, r.rcut_smth),
            capacity(r.nsel, "repformer.nsel"),
            set_davg_zero=r.set_davg_zero,
            dtype=dtype,
        )
        self.use_sqrt = r.use_sqrt_nnei
        self.direct_dist = r.direct_dist
        self.protection = config.env_protection
        self.smooth = config.smooth
        self.has_gate = r.attn2_has_gate
        self.attn2_hidden = r.attn2_hidden
        self.register_buffer("keep_TT", keep, persistent=False)
        self.activation = Activation(r.activation_function)
        self.pair_embedding = Linear(1, r.g2_dim, dtype=dtype, seed=descend(seed, 0))
        self.layers = nn.ModuleList(
            RepformerLayer(config, is_last=k == r.nlayers - 1, seed=descend(seed, 1, k))
            for k in range(r.nlayers)
        )
        # h2 never changes: one set of attention factors serves all layers.
        self.shares_factors = r.update_g2_has_attn and not r.update_h2 and r.nlayers > 1
        # Smooth attention counts empty slots, so a block must keep one (see `empty_slot_shift`).
        self.needs_empty_slot = config.smooth and (
            r.update_g1_has_attn or r.update_g2_has_attn or r.update_h2
        )

    def start(self, block: NeighborBlock, disp_NKX: Tensor) -> tuple[PairGeometry, Tensor]:
        """Return the geometric factors of a block, h2 (N, K, 3) among them, and the initial g2.

        Args:
            block: The centres and their neighbours.
            disp_NKX: Their displacements, in the precision of the network.

        Returns:
            The factors that all layers use, and g2 (N, K, P).
        """
        K = block.width_repformer
        stats = self.statistics
        used_NK = filled(block.present, block.num_repformer, K)
        keep_TT = self.keep_TT
        if keep_TT is not None:
            used_NK = used_NK & kept(keep_TT, block.types, block.neighbor_types[:, :K])
        disp_NKX = disp_NKX[:, :K]
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
