"""Sections of an input file: their base class, marks on fields, shared types and descriptions."""

import ast
import inspect
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError


class Alias:
    """Marks a field that may also be written under these other names."""

    def __init__(self, *names: str) -> None:
        self.names = names


NO_DEFAULT = "no default"
"""Marks a key that deepmd-kit leaves out of `out.json` when the input does not set it."""


def is_comment(key: object) -> bool:
    """Return whether a key is a comment: it starts with an underscore, or is `$schema`."""
    return isinstance(key, str) and (key.startswith("_") or key == "$schema")


def without_comments(value: Any) -> Any:
    """Return a free-form object without its comments; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if not is_comment(key)}


class Section(BaseModel):
    """A section of the input file: strict, unknown keys refused, immutable.

    Keys that start with `_` are comments and dropped, as deepmd-kit does. A field may have
    aliases; attribute names are the canonical keys. Integers pass for floats, never the reverse,
    and booleans never pass for numbers.

    A constraint that one value breaks alone is on its field; one between values is a rule
    (`schemas.check.rule.run_rules`), so that a fault in one key never hides another.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,  # only whole inputs and models are built: half the start-up time
    )

    @model_validator(mode="before")
    @classmethod
    def _canonical_keys(cls, data: Any) -> Any:
        return canonical_keys(cls, data) if isinstance(data, dict) else data


@cache
def aliases(section: type[Section]) -> dict[str, str]:
    """Return the canonical key of every alias of a section."""
    return {
        alias: name
        for name, field in section.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Alias)
        for alias in mark.names
    }


def canonical_keys(section: type[Section], data: dict[str, Any]) -> dict[str, Any]:
    """Return the data without comments and with aliases replaced by the canonical key.

    An alias beside its canonical key (or a second alias) is left as it is: it is refused later
    as an unknown key.
    """
    names = aliases(section)
    result: dict[str, Any] = {}
    for key, value in data.items():
        if is_comment(key):
            continue
        name = names.get(key, key)
        taken = name != key and (name in data or name in result)
        result[key if taken else name] = value
    return result


@dataclass(frozen=True, slots=True)
class Usual:
    """Within these bounds are the numbers of inputs that train; others are warned of.

    For a list they are bounds of its items. Zero and null, where the schema allows them, have a
    meaning of their own and are not compared.

    Args:
        low: The smallest usual number.
        high: The largest usual number.
        why: What happens outside, as the end of a sentence.
        entries: The largest usual number of items of a list.
        zero: What zero (of a list: no items) means, if it is worth a warning.
        limit: Numbers above this are no warning but an error: no computer gets there.
    """

    low: float | None = None
    high: float | None = None
    why: str | None = None
    entries: int | None = None
    zero: str | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class WrittenTo:
    """The value is a path to which a run writes, unless the key needs another that is off.

    Args:
        kind: `file`: it is opened in a folder that must exist; `statistics`: an HDF5 file or a
            folder, in a folder that is made; `prefix`: the beginning of file names, in a folder
            that is made; `folder`: a folder that is made; `new folder`: one that is meant to be.
    """

    kind: Literal["file", "statistics", "prefix", "folder", "new folder"]


class Needs:
    """The key has an effect only if one of these other keys of its section is on.

    On is what is neither false, zero, null nor empty.
    """

    def __init__(self, *keys: str) -> None:
        self.keys = keys


Precision = Literal[
    "default", "float16", "float32", "float64", "bfloat16", "half", "single", "double"
]
"""Floating-point type of a network; `default` is float64, the last three are names of others."""
SAME_PRECISION = {"default": "float64", "half": "float16", "single": "float32", "double": "float64"}
"""What other names of floating-point types mean."""


def canonical_precision(name: str) -> str:
    """Return the floating-point type of a `precision` by its usual name."""
    return SAME_PRECISION.get(name, name)


ACTIVATIONS = (
    *("tanh", "relu", "relu6", "softplus", "sigmoid", "gelu", "gelu_tf"),
    *("silu", "silut", "custom_silu", "linear", "none"),
)
_THRESHOLDED = re.compile(r"(silut|custom_silu):(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def unknown_choice(what: str, value: str, choices: Iterable[str]) -> PydanticCustomError:
    """Return the error of a value that is none of some choices; the nearest goes into its hint."""
    context = {"what": what, "value": value, "choices": list(choices)}
    return PydanticCustomError("choice", "unknown {what} `{value}`", context)


def _known_activation(name: str) -> str:
    lowered = name.lower()
    if lowered in ACTIVATIONS or _THRESHOLDED.fullmatch(lowered):
        return name
    raise unknown_choice("activation function", name, ACTIVATIONS)


Activation = Annotated[str, AfterValidator(_known_activation)]
"""Name of an activation function, in any case; `silut:T` sets where silut turns into tanh."""


def list_or_single(value: Any) -> str:
    """Tell apart the two shapes of a value that may be one item or a list of them."""
    return "list" if isinstance(value, list) else "single"


def by_type(default: str) -> Discriminator:
    """Tell variants of a section apart by `type`; without one it is the default."""

    def kind(value: Any) -> Any:
        if isinstance(value, Section):
            return getattr(value, "type", None)
        return value.get("type", default) if isinstance(value, dict) else None

    return Discriminator(kind)


Seed = Annotated[
    Annotated[int | None, Tag("single")] | Annotated[list[int], Tag("list")],
    Discriminator(list_or_single),
]
"""Seed of a random generator; deepmd-kit itself writes lists when it expands shared sections."""

Widths = Annotated[list[PositiveInt], Field(min_length=1)]
"""Widths of the layers of a network, at least one."""

TypePairs = list[Annotated[list[int], Field(min_length=2, max_length=2)]]
"""Pairs of indices into `type_map`, in any order."""


@cache
def descriptions(section: type[BaseModel]) -> dict[str, str]:
    """Return the docstring of every key of a section, inherited ones too."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _own(base)
    return found


@cache
def _own(section: type[BaseModel]) -> dict[str, str]:
    tree = _tree(inspect.getsourcefile(section) or "")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == section.__name__:
            return dict(_documented(node))
    return {}


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the attributes of a class that a text follows, and these texts."""
    for item, following in itertools.pairwise(node.body):
        match item, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                if isinstance(text, str):
                    yield name, inspect.cleandoc(text)
