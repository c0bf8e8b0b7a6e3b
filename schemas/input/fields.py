"""Every field of an input with its value, whether it is written, and the marks on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from schemas.base.diagnostics import Path
from schemas.input.section import Section
from schemas.input.view import UnusableError, class_of


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an input with its sound value.

    Args:
        section: The section that has it: a `Section`, or what is sound of one.
        path: Where it is.
        value: Its value.
        default: What it is if it is not written.
        given: Whether it is written.
        marks: What its annotation says besides the type.
    """

    section: Any
    path: Path
    value: Any
    default: Any
    given: bool
    marks: tuple[Any, ...]


_M = TypeVar("_M")


def fields(section: Any, path: Path = ()) -> Iterator[Field]:
    """Yield every field of an input and of the sections in it that has a sound value.

    Args:
        section: An input, or what is sound of one (`schemas.input.view`).
        path: Where it is.
    """
    kind = class_of(section)
    if kind is None:
        return
    for name, info in kind.model_fields.items():
        try:
            value = getattr(section, name)
        except UnusableError:
            continue
        if class_of(value) is not None:
            yield from fields(value, (*path, name))
            continue
        given = name in section.model_fields_set
        yield Field(section, (*path, name), value, info.default, given, tuple(info.metadata))


def marked(config: Section, mark: type[_M]) -> Iterator[tuple[Field, _M]]:
    """Yield the fields that have a mark of a kind, with it."""
    for field in fields(config):
        for item in field.marks:
            if isinstance(item, mark):
                yield field, item
