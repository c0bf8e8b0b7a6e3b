"""Activation functions by deepmd-kit's names (docs/deepmd-format.md, 3.6)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SILUT_DEFAULT_THRESHOLD = 3.0


class Activation(nn.Module):
    """An activation chosen by name; names are case-insensitive.

    Args:
        name: One of tanh, relu, relu6, softplus, sigmoid, silu, gelu, gelu_tf, silut[:t],
            custom_silu[:t], linear, none.

    Raises:
        ValueError: If the name is unknown.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        kind, _, threshold = name.lower().partition(":")
        self.kind = {
            "gelu_tf": "gelu",
            "custom_silu": "silut",
            "none": "linear",
        }.get(kind, kind)
        known = ("tanh", "relu", "relu6", "softplus", "sigmoid", "silu", "gelu", "silut", "linear")
        if self.kind not in known:
            raise ValueError(f"unknown activation function {name!r}")
        self.threshold = float(threshold) if threshold else SILUT_DEFAULT_THRESHOLD
        sigmoid = 1.0 / (1.0 + math.exp(-self.threshold))
        self.silu_at_threshold = self.threshold * sigmoid
        # The tanh branch of silut continues value and slope of silu at the threshold.
        self.slope_at_threshold = sigmoid * (1.0 + self.threshold * (1.0 - sigmoid))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of `x`, element by element."""
        if self.kind == "tanh":
            return torch.tanh(x)
        if self.kind == "linear":
            return x
        if self.kind == "gelu":
            return functional.gelu(x, approximate="tanh")
        if self.kind == "silu":
            return functional.silu(x)
        if self.kind == "relu":
            return torch.relu(x)
        if self.kind == "relu6":
            return functional.relu6(x)
        if self.kind == "softplus":
            return functional.softplus(x)
        if self.kind == "sigmoid":
            return torch.sigmoid(x)
        below = functional.silu(x)
        above = torch.tanh(self.slope_at_threshold * (x - self.threshold)) + self.silu_at_threshold
        return torch.where(x < self.threshold, below, above)
