"""The two attentions of the repformer, over pairs of neighbours and over neighbours.

docs/deepmd-format.md, 3.8.
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from dpa2.model.layers import Linear, Seed, descend, dtype_of
from schemas.input.descriptor import Descriptor

# Axes:  N centre atoms   K neighbour slots   H heads   D hidden width   P pair channels (g2_dim)
#        A atom channels (g1_dim)   X = x, y, z

DEFAULT_LN_EPS = 1e-5

# deepmd-kit shifts attention weights by this before the switch and back after it. TorchScript does
# not see constants of a module: they reach it as default arguments.
ATTENTION_SHIFT = 20.0


class PairGeometry(NamedTuple):
    """Geometric factors of one block of centres.

    Attributes:
        h2: (N, K, 3) equivariant pair vectors.
        weight: (N, K) the switch w (smooth), or 1 in filled slots; 0 in empty ones.
        filled: (N, K) bool.
        norm: (N, 1, 1) kappa of the symmetrisation (square root or not).
        conv_norm: (N, 1) kappa of the convolution (never the square root).
        num_extra: Empty slots that deepmd-kit has beyond this block's width.
    """

    h2: Tensor
    weight: Tensor
    filled: Tensor
    norm: Tensor
    conv_norm: Tensor
    num_extra: int


class AttentionFactors(NamedTuple):
    """Head-independent factors of the gated pair attention (N, K, K).

    weights = softmax(logits * scale + shift) * outer, where logits = q k^T.
    """

    scale: Tensor
    shift: Tensor
    outer: Tensor


def empty_slot_shift(
    width: int, num_extra: int, like: Tensor, attention_shift: float = ATTENTION_SHIFT
) -> Tensor:
    """Return (width,) additions to the attention logits of empty slots.

    deepmd-kit's softmax runs over all nsel slots, and each empty one adds exp(-20) to its
    denominator. A block leaves one empty slot at its end; log(1 + num_extra) on its logit makes it
    stand for itself and for the `num_extra` slots that the block leaves out.
    """
    shift = torch.full([width], -attention_shift, dtype=like.dtype, device=like.device)
    if num_extra > 0:
        shift[width - 1] += torch.log1p(torch.tensor(float(num_extra), dtype=torch.float64)).item()
    return shift


def attention_factors(
    geometry: PairGeometry,
    h2_NKX: Tensor,
    hidden: int,
    has_gate: bool,
    smooth: bool,
    attention_shift: float = ATTENTION_SHIFT,
) -> AttentionFactors:
    """Fold switch, gate, mask and every constant factor of the pair attention.

    docs/deepmd-format.md, 3.8.
    """
    w_NK = geometry.weight
    gate_NKK = torch.bmm(h2_NKX, h2_NKX.transpose(1, 2))
    ww_NKK = w_NK.unsqueeze(2) * w_NK.unsqueeze(1)
    wwgate_NKK = gate_NKK * ww_NKK
    outer_NKK = wwgate_NKK * (1.0 / 3.0**0.5)
    if smooth:
        scale_NKK = (wwgate_NKK if has_gate else ww_NKK) * (1.0 / hidden**0.5)
        shift_K = empty_slot_shift(w_NK.shape[1], geometry.num_extra, w_NK)
        return AttentionFactors(scale_NKK, ww_NKK * attention_shift + shift_K, outer_NKK)
    # Empty slots never win against filled ones; where a centre has none at all, `outer` is 0.
    far = torch.zeros_like(w_NK).masked_fill(~geometry.filled, -1e30)
    scale = gate_NKK if has_gate else torch.ones_like(gate_NKK)
    return AttentionFactors(scale * (1.0 / hidden**0.5), far.unsqueeze(1), outer_NKK)


def pair_geometry(
    h2_NKX: Tensor,
    switch_NK: Tensor,
    filled_NK: Tensor,
    nsel: int,
    smooth: bool,
    use_sqrt: bool,
) -> PairGeometry:
    """Collect the factors of a block: weights and normalisations.

    docs/deepmd-format.md, 3.8, helpers.
    """
    mask_NK = filled_NK.to(h2_NKX.dtype)
    width = h2_NKX.shape[1]
    if smooth:
        weight_NK = switch_NK * mask_NK
        one = torch.ones([h2_NKX.shape[0], 1], dtype=h2_NKX.dtype, device=h2_NKX.device)
        conv_N1 = one / nsel
        norm_N1 = one / nsel**0.5 if use_sqrt else conv_N1
    else:
        weight_NK = mask_NK
        count_N1 = mask_NK.sum(dim=1, keepdim=True)
        # deepmd-kit's guard against atoms without neighbours
        epsilon = 1e-4
        conv_N1 = 1.0 / (epsilon + count_N1)
        norm_N1 = 1.0 / (epsilon + torch.sqrt(count_N1)) if use_sqrt else conv_N1
    return PairGeometry(h2_NKX, weight_NK, filled_NK, norm_N1.unsqueeze(-1), conv_N1, nsel - width)


class PairAttention(nn.Module):
    """Gated attention among the neighbours of one atom.

    Query and key maps are folded into one bilinear form a head, q k^T = g2 M_h g2^T, and value and
    output maps into another, so that the pair features enter two batched products unprojected.

    Args:
        config: The descriptor's section.
        seed: Seed of the repformer layer.
    """

    def __init__(self, config: Descriptor, seed: Seed) -> None:
        super().__init__()
        r, dtype = config.repformer, dtype_of(config.precision)
        self.num_heads = H = r.attn2_nhead
        self.hidden = r.attn2_hidden
        self.pair_dim = P = r.g2_dim
        self.query_key = Linear(
            P, 2 * self.hidden * H, bias=False, dtype=dtype, seed=descend(seed, 7)
        )
        self.value: Optional[Linear] = None
        self.head_map: Optional[Linear] = None
        self.norm: Optional[nn.LayerNorm] = None
        self.vector_map: Optional[Linear] = None
        if r.update_g2_has_attn:
            self.value = Linear(P, P * H, bias=False, dtype=dtype, seed=descend(seed, 8, 0))
            self.head_map = Linear(H * P, P, dtype=dtype, seed=descend(seed, 8, 1))
            epsilon = DEFAULT_LN_EPS if r.ln_eps is None else r.ln_eps
            self.norm = nn.LayerNorm(P, eps=epsilon, dtype=dtype)
            self.norm.requires_grad_(r.trainable_ln)
        if r.update_h2:
            self.vector_map = Linear(H, 1, bias=False, dtype=dtype, seed=descend(seed, 11))

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
        config: The descriptor's section.
        seed: Child 13 of the repformer layer's seed.
    """

    def __init__(self, config: Descriptor, seed: Seed) -> None:
        super().__init__()
        r, dtype = config.repformer, dtype_of(config.precision)
        self.num_heads = H = r.attn1_nhead
        self.hidden = D = r.attn1_hidden
        self.atom_dim = A = r.g1_dim
        self.smooth = config.smooth
        self.shift = ATTENTION_SHIFT
        self.query = Linear(A, D * H, bias=False, dtype=dtype, seed=descend(seed, 0))
        self.key_value = Linear(A, (D + A) * H, bias=False, dtype=dtype, seed=descend(seed, 1))
        self.head_map = Linear(A * H, A, dtype=dtype, seed=descend(seed, 2))

    def forward(self, g1_NA: Tensor, g1_NKA: Tensor, geometry: PairGeometry) -> Tensor:
        """Return the update of g1 (N, A).

        Args:
            g1_NA: Features of the centres.
            g1_NKA: Features of their neighbours.
            geometry: Switch and mask.
        """
        N = g1_NA.shape[0]
        D, H, A = self.hidden, self.num_heads, self.atom_dim
        key_value = self.key_value.weight.view(A, D + A, H)
        query_NDH = self.query(g1_NA).view(N, D, H)
        q_NHA = torch.einsum("ndh,adh->nha", query_NDH, key_value[:, :D])
        logits_NHK = torch.bmm(q_NHA, g1_NKA.transpose(1, 2)) * (1.0 / D**0.5)
        w_N1K = geometry.weight.unsqueeze(1)
        if self.smooth:
            shift_K = empty_slot_shift(w_N1K.shape[2], geometry.num_extra, w_N1K)
            logits_NHK = (logits_NHK + self.shift) * w_N1K + shift_K
        else:
            logits_NHK = logits_NHK.masked_fill(~geometry.filled.unsqueeze(1), -1e30)
        weights_NHK = torch.softmax(logits_NHK, dim=-1) * w_N1K
        mixed_NHA = torch.bmm(weights_NHK, g1_NKA)
        values_NHA = torch.einsum("nha,abh->nhb", mixed_NHA, key_value[:, D:])
        return self.head_map(values_NHA.reshape(N, H * A))
