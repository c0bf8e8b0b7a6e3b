"""Values that several networks share: precision, activation function, seed, layer widths."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, PositiveInt, Tag
from pydantic_core import PydanticCustomError

Precision = Literal[
    "default", "float16", "float32", "float64", "bfloat16", "half", "single", "double"
]
"""Floating-point type of a network; `default` is float64, the last three are names of others."""
SAME_PRECISION = {
    "default": "float64",
    "half": "float16",
    "single": "float32",
    "double": "float64",
}
"""What other names of floating-point types mean."""


def canonical_precision(name: str) -> str:
    """Return the floating-point type of a `precision` by its usual name."""
    return SAME_PRECISION.get(name, name)


ACTIVATIONS = (
    "tanh",
    "relu",
    "relu6",
    "softplus",
    "sigmoid",
    "gelu",
    "gelu_tf",
    "silu",
    "silut",
    "custom_silu",
    "linear",
    "none",
)
_THRESHOLDED = re.compile(r"(silut|custom_silu):(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def _known_activation(name: str) -> str:
    lowered = name.lower()
    if lowered in ACTIVATIONS or _THRESHOLDED.fullmatch(lowered):
        return name
    raise PydanticCustomError(
        "choice",
        "unknown activation function `{value}`",
        {"value": name, "choices": list(ACTIVATIONS)},
    )


Activation = Annotated[str, AfterValidator(_known_activation)]
"""Name of an activation function, in any case; `silut:T` sets where silut turns into tanh."""


def list_or_single(value: Any) -> str:
    """Tell apart the two shapes of a value that may be one item or a list of them."""
    return "list" if isinstance(value, list) else "single"


Seed = Annotated[
    Annotated[int | None, Tag("single")] | Annotated[list[int], Tag("list")],
    Discriminator(list_or_single),
]
"""Seed of a random generator; deepmd-kit itself writes lists when it expands shared sections."""

Widths = Annotated[list[PositiveInt], Field(min_length=1)]
"""Widths of the layers of a network, at least one."""

TypePairs = list[Annotated[list[int], Field(min_length=2, max_length=2)]]
"""Pairs of indices into `type_map`, in any order."""
