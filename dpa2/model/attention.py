"""The two attentions of the repformer: over pairs of neighbours, and over neighbours.

docs/deepmd-format.md, 3.8.
"""

# Axes:  N centre atoms   K neighbour slots   H heads   D hidden width   P pair channels (g2_dim)
#        A atom channels (g1_dim)   X = x, y, z

from typing import Optional

import torch
from torch import Tensor, nn

from dpa2.model.layers import Linear
from dpa2.model.pair_geometry import (
    ATTENTION_SHIFT,
    AttentionFactors,
    PairGeometry,
    empty_slot_shift,
)
from dpa2.model.seeds import Seed, descend


class PairAttention(nn.Module):
    """Gated attention among the neighbours of one atom.

    Query and key maps are folded into one bilinear form a head, q k^T = g2 M_h g2^T, and value and
    output maps into another, so that the pair features enter two batched products unprojected.

    Args:
        pair_dim: `g2_dim`.
        hidden: `attn2_hidden`, per head.
        num_heads: `attn2_nhead`.
        with_pair_update: Whether g2 is updated (else only h2 is, and no value map exists).
        with_vector_update: `update_h2`.
        ln_eps: Epsilon of the layer norm.
        dtype: Of the parameters.
        seed: Seed of the repformer layer.
    """

    def __init__(
        self,
        pair_dim: int,
        hidden: int,
        num_heads: int,
        *,
        with_pair_update: bool,
        with_vector_update: bool,
        ln_eps: float,
        dtype: torch.dtype,
        seed: Seed,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.hidden = hidden
        self.pair_dim = pair_dim
        self.query_key = Linear(
            pair_dim, 2 * hidden * num_heads, bias=False, dtype=dtype, seed=descend(seed, 7)
        )
        self.value: Optional[Linear] = None
        self.head_map: Optional[Linear] = None
        self.norm: Optional[nn.LayerNorm] = None
        self.vector_map: Optional[Linear] = None
        if with_pair_update:
            self.value = Linear(
                pair_dim, pair_dim * num_heads, bias=False, dtype=dtype, seed=descend(seed, 8, 0)
            )
            self.head_map = Linear(
                num_heads * pair_dim, pair_dim, dtype=dtype, seed=descend(seed, 8, 1)
            )
            self.norm = nn.LayerNorm(pair_dim, eps=ln_eps, dtype=dtype)
        if with_vector_update:
            self.vector_map = Linear(num_heads, 1, bias=False, dtype=dtype, seed=descend(seed, 11))

    def fold_query_key(self) -> Tensor:
        """Return M (P, H * P): the bilinear form of every head."""
        split = self.query_key.weight.view(self.pair_dim, self.hidden, 2 * self.num_heads)
        query, key = split[..., : self.num_heads], split[..., self.num_heads :]
        return torch.einsum("pdh,rdh->phr", query, key).reshape(self.pair_dim, -1)

    def fold_value(self) -> Tensor:
        """Return V (H * P, P): value map and output map of every head in one."""
        value, head_map = self.value, self.head_map
        assert value is not None
        assert head_map is not None
        P, H = self.pair_dim, self.num_heads
        # deepmd-kit flattens (feature, head) with the head fastest
        v = value.weight.view(P, P, H)
        o = head_map.weight.view(P, H, P)
        return torch.einsum("pfh,fho->hpo", v, o).reshape(H * P, P)

    def weights(self, g2_NKP: Tensor, form_PHP: Tensor, factors: AttentionFactors) -> Tensor:
        """Return the attention weights (N, K, H, K): rows j, head, columns k."""
        N, K, P = g2_NKP.shape
        q = (g2_NKP.reshape(N * K, P) @ form_PHP).view(N, K * self.num_heads, P)
        logits = torch.bmm(q, g2_NKP.transpose(1, 2)).view(N, K, self.num_heads, K)
        logits = torch.addcmul(factors.shift.unsqueeze(2), logits, factors.scale.unsqueeze(2))
        return torch.softmax(logits, dim=-1) * factors.outer.unsqueeze(2)

    def pair_update(self, weights_NKHK: Tensor, g2_NKP: Tensor, map_HPP: Tensor) -> Tensor:
        """Return the normalised update of g2 (N, K, P)."""
        # One assignment each: in a tuple TorchScript would lose that they are modules.
        head_map = self.head_map
        norm = self.norm
        assert head_map is not None
        assert norm is not None
        N, K, P = g2_NKP.shape
        mixed = torch.bmm(weights_NKHK.reshape(N, K * self.num_heads, K), g2_NKP)
        out = torch.nn.functional.linear(
            mixed.view(N * K, self.num_heads * P), map_HPP.t(), head_map.bias
        )
        return norm(out).view(N, K, P)

    def vector_update(self, weights_NKHK: Tensor, h2_NKX: Tensor) -> Tensor:
        """Return the update of h2 (N, K, 3)."""
        vector_map = self.vector_map
        assert vector_map is not None
        mixed_NKK = torch.matmul(vector_map.weight.t(), weights_NKHK).squeeze(2)
        return torch.bmm(mixed_NKK, h2_NKX)


class LocalAttention(nn.Module):
    """Attention of an atom over its neighbours.

    Everything is projected per atom, never per pair: q_h k_hj = (q_h Wk_h^T) g1_j, and values are
    mapped after the neighbours are summed.

    Args:
        atom_dim: `g1_dim`.
        hidden: `attn1_hidden`, per head.
        num_heads: `attn1_nhead`.
        dtype: Of the parameters.
        seed: Child 13 of the repformer layer's seed.
    """

    def __init__(
        self, atom_dim: int, hidden: int, num_heads: int, *, dtype: torch.dtype, seed: Seed
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.hidden = hidden
        self.atom_dim = atom_dim
        self.shift = ATTENTION_SHIFT
        self.query = Linear(
            atom_dim, hidden * num_heads, bias=False, dtype=dtype, seed=descend(seed, 0)
        )
        self.key_value = Linear(
            atom_dim,
            (hidden + atom_dim) * num_heads,
            bias=False,
            dtype=dtype,
            seed=descend(seed, 1),
        )
        self.head_map = Linear(atom_dim * num_heads, atom_dim, dtype=dtype, seed=descend(seed, 2))

    def forward(
        self, g1_NA: Tensor, g1_NKA: Tensor, geometry: PairGeometry, smooth: bool
    ) -> Tensor:
        """Return the update of g1 (N, A).

        Args:
            g1_NA: Features of the centres.
            g1_NKA: Features of their neighbours.
            geometry: Switch and mask.
            smooth: Whether weights are switched off at the cutoff.
        """
        N = g1_NA.shape[0]
        D, H, A = self.hidden, self.num_heads, self.atom_dim
        key_value = self.key_value.weight.view(A, D + A, H)
        query_NDH = self.query(g1_NA).view(N, D, H)
        q_NHA = torch.einsum("ndh,adh->nha", query_NDH, key_value[:, :D])
        logits_NHK = torch.bmm(q_NHA, g1_NKA.transpose(1, 2)) * (1.0 / D**0.5)
        w_N1K = geometry.weight.unsqueeze(1)
        if smooth:
            shift_K = empty_slot_shift(w_N1K.shape[2], geometry.num_extra, w_N1K)
            logits_NHK = (logits_NHK + self.shift) * w_N1K + shift_K
        else:
            logits_NHK = logits_NHK.masked_fill(~geometry.filled.unsqueeze(1), -1e30)
        weights_NHK = torch.softmax(logits_NHK, dim=-1) * w_N1K
        mixed_NHA = torch.bmm(weights_NHK, g1_NKA)
        values_NHA = torch.einsum("nha,abh->nhb", mixed_NHA, key_value[:, D:])
        return self.head_map(values_NHA.reshape(N, H * A))
