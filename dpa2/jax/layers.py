"""The building blocks of every network: activation, linear layer, skip connection.

docs/deepmd-format.md, 3.6.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from dpa2.jax.weights import Array, LayerNorm, Linear

Activation = Callable[[Array], Array]
SILUT_DEFAULT_THRESHOLD = 3.0


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


def linear(layer: Linear, x: Array) -> Array:
    """Return x W + b for x of shape (..., in)."""
    y = x @ layer.weight
    return y if layer.bias is None else y + layer.bias


def bias_of(layer: Linear) -> Array:
    """Return the bias of a layer that has one."""
    assert layer.bias is not None
    return layer.bias


def close_hidden(x: Array, y: Array, timestep: Array | None) -> Array:
    """Finish a hidden layer whose activation is `y`: time step, and skip where widths allow it."""
    if timestep is not None:
        y = y * timestep
    if x.shape[-1] == y.shape[-1]:
        return y + x
    if 2 * x.shape[-1] == y.shape[-1]:
        return y + jnp.concatenate([x, x], axis=-1)
    return y


def hidden_layers(layers: Sequence[Linear], act: Activation, x: Array) -> Array:
    """Apply hidden layers one after the other."""
    for layer in layers:
        x = close_hidden(x, act(linear(layer, x)), layer.timestep)
    return x


def layer_norm(norm: LayerNorm, x: Array, epsilon: float) -> Array:
    """Normalise the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + epsilon) * norm.weight + norm.bias


def residual(scales: Sequence[Array], style: str, updates: Sequence[Array]) -> Array:
    """Combine a feature, first in `updates`, with its updates.

    docs/deepmd-format.md, 3.8, update styles.
    """
    first, *others = updates
    if style == "res_residual":
        return sum((scale * u for scale, u in zip(scales, others, strict=True)), start=first)
    if style == "res_avg":
        return sum(others, start=first) / math.sqrt(len(updates))
    return sum((u / math.sqrt(len(others)) for u in others), start=first)
