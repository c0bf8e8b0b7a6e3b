"""One task of an input as if it were the whole of it, what of it is sound, and its fields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic_core import PydanticUndefined

from schemas.base.diagnostics import Path
from schemas.input.paths import child
from schemas.input.section import Section, canonical_keys, without_comments


@dataclass(frozen=True, slots=True)
class View:
    """The data of a single task.

    A branch of a multi-task input becomes one by putting in what it refers to, so that it can be
    checked, and its faults explained, like any other input.

    Args:
        data: The input of this task alone.
        branch: The branch that it is; None for an input of one task.
        origins: Pairs of a path here and the one in the file, the longest path first.
        hidden: Paths here of which a fault is reported elsewhere.
    """

    data: dict[str, Any]
    branch: str | None = None
    origins: tuple[tuple[Path, Path], ...] = ()
    hidden: tuple[Path, ...] = ()

    def original(self, path: Path) -> Path:
        """Return where in the file a path of this view is written."""
        for here, there in self.origins:
            if starts_with(path, here):
                return (*there, *path[len(here) :])
        return path

    def inside(self, path: Path) -> Iterator[Path]:
        """Yield the paths of this view at which a path of the file appears."""
        taken = False
        for here, there in self.origins:
            if starts_with(path, there):
                taken = True
                yield (*here, *path[len(there) :])
        if not taken:
            yield path


def starts_with(path: Path, ancestor: Path) -> bool:
    """Return whether a path is at or below another."""
    return path[: len(ancestor)] == ancestor


_S = TypeVar("_S", bound=Section)


class UnusableError(Exception):
    """A rule asked for a value that is missing or of which a fault is known already."""


class _Partial:
    """Stands in for a section: its sound values are attributes, the others raise."""

    def __init__(self, section: type[Section], values: dict[str, Any], given: set[str]) -> None:
        self._section = section
        self._values = values
        self.model_fields_set = given

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise UnusableError(name) from None


def partial(section: type[_S], data: Any, broken: Sequence[Path]) -> _S:
    """Return what looks like a section but holds only the sound values of the data.

    Args:
        section: The class of the section.
        data: The data, in which there are faults.
        broken: Paths of these faults, relative to the section.
    """
    if not isinstance(data, dict) or () in broken:
        return cast("_S", _Partial(section, {}, set()))
    plain = canonical_keys(section, data)
    values: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        below = [path[1:] for path in broken if path and _same(section, path[0], name)]
        inner = child(section, name, plain.get(name))
        if name in plain and inner is not None and plain[name] is not None:
            values[name] = partial(inner, plain[name], below)
        elif name in plain:
            if not below:
                values[name] = without_comments(plain[name])
        elif field.default is not PydanticUndefined:
            values[name] = field.default
    return cast("_S", _Partial(section, values, set(plain) & set(section.model_fields)))


def class_of(value: Any) -> type[Section] | None:
    """Return the class of a section, or of what is sound of one; None for any other value."""
    if isinstance(value, _Partial):
        return value._section  # noqa: SLF001 - the stand-in of this module
    return type(value) if isinstance(value, Section) else None


def _same(section: type[Section], key: str | int, name: str) -> bool:
    return key == name or name in canonical_keys(section, {str(key): None})


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
