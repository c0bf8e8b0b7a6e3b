"""The building blocks of every network here: seeds, activations, linear layers, embedding networks.

docs/deepmd-format.md, 3.6, 3.12.
"""

import math
from itertools import pairwise
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.base.environment import default_precision
from schemas.base.errors import ConfigError
from schemas.input.section import canonical_precision

# A seed as the input file gives it (int), or as its position in the seed tree makes it (list).
Seed = int | list[int] | None

_MASK_64 = (1 << 64) - 1
_HASH = 0x43B0D7E5
_MIX_LEFT = 0xCA01F9DD
_MIX_RIGHT = 0x4973F715


def descend(seed: Seed, *indices: int) -> Seed:
    """Return the seed of the part reached from `seed` by going down `indices`, outermost first."""
    if seed is None:
        return None
    return [*reversed(indices), *(seed if isinstance(seed, list) else [seed])]


def generator(seed: Seed) -> torch.Generator | None:
    """Return a CPU generator for `seed`; None (torch's global generator) without a seed."""
    if seed is None:
        return None
    made = torch.Generator(device="cpu")
    made.manual_seed(mix(seed) if isinstance(seed, list) else seed)
    return made


def mix(entropy: list[int]) -> int:
    """Fold a list of integers into one 64-bit generator seed."""
    state = _hash(entropy[0])
    for value in entropy[1:]:
        state = (_MIX_LEFT * state - _MIX_RIGHT * _hash(value)) & _MASK_64
        state ^= state >> 16
    return state


def _hash(value: int) -> int:
    value = ((value ^ _HASH) * _HASH) & _MASK_64
    return value ^ (value >> 16)


PRECISIONS = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
}


def dtype_of(precision: str) -> torch.dtype:
    """Return the torch dtype of a `precision` option; `default` follows DP_INTERFACE_PREC.

    Raises:
        ConfigError: If no network can have it.
    """
    name = default_precision() if precision == "default" else canonical_precision(precision)
    if name not in PRECISIONS:
        raise ConfigError(
            f"precision `{precision}` is not one a network can have",
            hint=f"use one of {', '.join(PRECISIONS)}, default",
        )
    return PRECISIONS[name]


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


# Axes:  R rows (pairs, triples or atoms)   C channels


class Linear(nn.Module):
    """y = x W + b, with deepmd-kit's initial values.

    `weight` is stored (in, out). `timestep`, when present, scales the activation of a layer with a
    skip connection; it is applied by the network that owns the layer.

    Args:
        num_in: Input width.
        num_out: Output width.
        bias: Whether there is a bias.
        timestep: Whether a timestep is wanted; it exists only where a skip connection does.
        dtype: Of all parameters.
        seed: Position in the seed tree.
        glorot: Draw the weight from Glorot's uniform distribution instead of a normal one.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        *,
        bias: bool = True,
        timestep: bool = False,
        dtype: torch.dtype = torch.float64,
        seed: Seed = None,
        glorot: bool = False,
    ) -> None:
        super().__init__()
        random = generator(seed)
        weight = torch.empty(num_in, num_out, dtype=dtype)
        if glorot:
            nn.init.xavier_uniform_(weight, generator=random)
        else:
            weight.normal_(0.0, 1.0 / (num_in + num_out) ** 0.5, generator=random)
        self.weight = nn.Parameter(weight)
        self.bias: Optional[nn.Parameter] = None
        self.timestep: Optional[nn.Parameter] = None
        if bias:
            drawn = torch.empty(num_out, dtype=dtype).normal_(0.0, 1.0, generator=random)
            self.bias = nn.Parameter(drawn)
        if timestep and num_out in (num_in, 2 * num_in):
            drawn = torch.empty(num_out, dtype=dtype).normal_(0.1, 0.001, generator=random)
            self.timestep = nn.Parameter(drawn)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b for x of shape (..., in)."""
        return torch.nn.functional.linear(x, self.weight.t(), self.bias)


def close_hidden(x_RC: Tensor, y_RC: Tensor, timestep: Optional[Tensor]) -> Tensor:
    """Finish a hidden layer, act(x W + b) * timestep + skip(x), whose activation is `y_RC`.

    The skip adds `x` where input and output width agree, `[x, x]` where the width doubles.
    """
    if timestep is not None:
        y_RC = y_RC * timestep
    num_in = x_RC.shape[-1]
    num_out = y_RC.shape[-1]
    if num_in == num_out:
        return y_RC + x_RC
    if num_out == 2 * num_in:
        return y_RC + torch.cat([x_RC, x_RC], dim=-1)
    return y_RC


class EmbeddingNetwork(nn.Module):
    """A stack of hidden layers (no output layer), deepmd-kit's embedding net.

    Args:
        num_in: Width of the input.
        neuron: Width of every layer.
        activation: Name of the activation function.
        timestep: `resnet_dt`.
        dtype: Of all parameters.
        seed: Layer k is seeded with child k.
    """

    def __init__(
        self,
        num_in: int,
        neuron: list[int],
        *,
        activation: str,
        timestep: bool,
        dtype: torch.dtype,
        seed: Seed,
    ) -> None:
        super().__init__()
        self.first = Linear(
            num_in, neuron[0], timestep=timestep, dtype=dtype, seed=descend(seed, 0)
        )
        self.rest = nn.ModuleList(
            Linear(a, b, timestep=timestep, dtype=dtype, seed=descend(seed, k))
            for k, (a, b) in enumerate(pairwise(neuron), start=1)
        )
        self.activation = Activation(activation)
        self.num_in = num_in
        self.num_first = neuron[0]

    def forward(self, x_RC: Tensor) -> Tensor:
        """Return the network at `x_RC` (R, in) -> (R, neuron[-1])."""
        y_RC = self.activation(self.first(x_RC))
        return self.after_first(close_hidden(x_RC, y_RC, self.first.timestep))

    def splits_first_layer(self) -> bool:
        """Tell whether type inputs enter only through the first layer's sum (no skip from them)."""
        return self.num_in == 1 or self.num_first not in (self.num_in, 2 * self.num_in)

    def first_terms(self, inputs_TC: Tensor) -> Tensor:
        """Return what `inputs_TC`, all inputs but the first, add to the first layer.

        Concatenated inputs enter a linear layer as a sum, so types become tables, a row each.
        """
        return inputs_TC @ self.first.weight[1:]

    def first_bias(self) -> Tensor:
        """Return the bias of the first layer."""
        bias = self.first.bias
        assert bias is not None
        return bias

    def from_first_sum(self, scalar_R: Tensor, others_RC: Tensor) -> Tensor:
        """Evaluate with input 0 = `scalar_R` and everything else of the first sum = `others_RC`.

        Args:
            scalar_R: (R,) the geometric input.
            others_RC: (R, neuron[0]) or broadcastable to it, bias included.
        """
        scalar_R1 = scalar_R.unsqueeze(-1)
        y_RC = self.activation(torch.addcmul(others_RC, scalar_R1, self.first.weight[0]))
        # The input itself is at hand, for a skip, only when it is the scalar alone.
        if self.num_in == 1:
            y_RC = close_hidden(scalar_R1, y_RC, self.first.timestep)
        return self.after_first(y_RC)

    def after_first(self, x_RC: Tensor) -> Tensor:
        """Apply all layers but the first."""
        for layer in self.rest:
            y_RC = self.activation(layer(x_RC))
            x_RC = close_hidden(x_RC, y_RC, layer.timestep)  # type: ignore[arg-type]
        return x_RC
