"""The repformer stack: pair features from geometry, then layers over blocks of atoms.

docs/deepmd-format.md, 3.8.
"""

# Axes:  N centre atoms of a block   M atoms of the table that neighbours index   K slots
#        P pair channels (g2_dim)   A atom channels (g1_dim)   X = x, y, z

from typing import Optional

import torch
from torch import Tensor, nn

from dpa2.model.activations import Activation
from dpa2.model.blocks import NeighborBlock
from dpa2.model.environment import environment_matrix
from dpa2.model.layers import Linear
from dpa2.model.masks import filled, kept
from dpa2.model.pair_geometry import (
    AttentionFactors,
    PairGeometry,
    attention_factors,
    pair_geometry,
)
from dpa2.model.repformer_layer import RepformerLayer, RepformerOptions
from dpa2.model.seeds import Seed, descend
from dpa2.model.statistics import EnvironmentStatistics


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
