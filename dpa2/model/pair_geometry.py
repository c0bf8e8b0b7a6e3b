"""What the repformer needs of a block's geometry; the same for all layers.

docs/deepmd-format.md, 3.8.
"""

# Axes:  N centre atoms   K neighbour slots   X = x, y, z

from typing import NamedTuple

import torch
from torch import Tensor

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
