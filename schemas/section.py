"""Section: the base class of every part of an input file."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


@dataclass(frozen=True, slots=True)
class Alias:
    """Marks a field that may also be written under these other names."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True, slots=True)
class NoDefault:
    """Marks a key that deepmd-kit leaves out of `out.json` when the input does not set it."""


NO_DEFAULT = NoDefault()


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
    (`schemas.rules`), so that a fault in one key never hides another.
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
