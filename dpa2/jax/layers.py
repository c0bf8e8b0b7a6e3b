"""The building blocks of every network: activation, linear layer, skip connection.

docs/deepmd-format.md, 3.6.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from dpa2.jax.weights import Array, Part
from dpa2.model.layers import SILUT_DEFAULT_THRESHOLD

Activation = Callable[[Array], Array]


def activation(name: str) -> Activation:
    """Return an activation function by deepmd-kit's name, in any case.

    Raises:
        ValueError: If the name is unknown.
    """
    kind, _, threshold = name.lower().partition(":")
    if kind in {"silut", "custom_silu"}:
        return _silut(float(threshold) if threshold else SILUT_DEFAULT_THRESHOLD)
    known: dict[str, Activation] = {
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,
        "softplus": jax.nn.softplus,
        "sigmoid": jax.nn.sigmoid,
        "silu": jax.nn.silu,
        "gelu": jax.nn.gelu,  # by default the approximation with tanh
        "gelu_tf": jax.nn.gelu,
        "linear": lambda x: x,
        "none": lambda x: x,
    }
    if kind not in known:
        raise ValueError(f"unknown activation function {name!r}")
    return known[kind]


def _silut(threshold: float) -> Activation:
    """Return silu below the threshold, continued by a tanh of the same value and slope."""
    sigmoid = 1.0 / (1.0 + math.exp(-threshold))
    slope = sigmoid * (1.0 + threshold * (1.0 - sigmoid))

    def silut(x: Array) -> Array:
        above = jnp.tanh(slope * (x - threshold)) + threshold * sigmoid
        return jnp.where(x < threshold, jax.nn.silu(x), above)

    return silut


def linear(layer: Part, x: Array) -> Array:
    """Return x W + b for x of shape (..., in)."""
    y: Array = x @ layer.weight
    bias = layer.get("bias")
    return y if bias is None else y + bias


def close_hidden(x: Array, y: Array, timestep: Array | None) -> Array:
    """Finish a hidden layer whose activation is `y`: time step, and skip where widths allow it."""
    if timestep is not None:
        y = y * timestep
    if x.shape[-1] == y.shape[-1]:
        return y + x
    if 2 * x.shape[-1] == y.shape[-1]:
        return y + jnp.concatenate([x, x], axis=-1)
    return y


def hidden_layers(layers: Sequence[Part], act: Activation, x: Array) -> Array:
    """Apply hidden layers one after the other."""
    for layer in layers:
        x = close_hidden(x, act(linear(layer, x)), layer.get("timestep"))
    return x


def layer_norm(norm: Part, x: Array, epsilon: float) -> Array:
    """Normalise the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    scaled: Array = centred / jnp.sqrt(variance + epsilon) * norm.weight
    return scaled + norm.bias


def residual(layer: Part, feature: str, style: str, updates: Sequence[Array]) -> Array:
    """Combine a feature (`g1`, `g2` or `h2`), first in `updates`, with its updates.

    docs/deepmd-format.md, 3.8, update styles.
    """
    first, *others = updates
    if style == "res_residual":
        own = layer.get(f"{feature}_residual")
        scales = [] if own is None else own.scales.numbered()
        return sum((scale * u for scale, u in zip(scales, others, strict=True)), start=first)
    if style == "res_avg":
        return sum(others, start=first) / math.sqrt(len(updates))
    return sum((u / math.sqrt(len(others)) for u in others), start=first)
