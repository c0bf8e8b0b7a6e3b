"""Paths in an input: the sections behind them, one task as if it were all, what of it is sound."""

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic_core import PydanticUndefined

from schemas.base.diagnostics import Finding, Path
from schemas.input.root import Input
from schemas.input.section import Section, aliases, canonical_keys, without_comments


def section_at(data: Any, path: Path) -> type[Section] | None:
    """Return the section class that describes the object at a path of an input, if any."""
    return [Input, *(section for _, section in _walk(data, path))][-1]


def as_written(data: Any, path: Path) -> Path:
    """Return a path with the keys as the data have them, where they use an alias."""
    return tuple(key for key, _ in _walk(data, path))


def _walk(value: Any, path: Path) -> Iterator[tuple[str | int, type[Section] | None]]:
    """Yield each part of a path as the data have it, with the section class of what is there."""
    section: type[Section] | None = Input
    for part in path:
        key = part
        if isinstance(value, dict):
            found = written_key(section, value, part)
            key = part if found is None else found
            value = value.get(key)
        else:
            is_there = isinstance(value, list) and isinstance(part, int) and part < len(value)
            value = value[part] if is_there else None
        section = child(section, key, value) if section is not None else None
        yield key, section


def object_in(data: Any, key: str) -> dict[str, Any]:
    """Return the object under a key; empty if there is none."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def child(section: type[Section], key: str | int, value: Any) -> type[Section] | None:
    """Return the class of the section under a key; its `type` chooses among several."""
    name = aliases(section).get(str(key), str(key))
    field = section.model_fields.get(name)
    options = list(sections_of(field.annotation)) if field is not None else []
    if not options:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    for option in options:
        marked = option.model_fields.get("type")
        if kind is not None and marked is not None and kind in get_args(marked.annotation):
            return option
    return options[0]


@cache
def places() -> dict[str, list[str]]:
    """Return, for every key, the dotted paths of the sections that have it."""
    found: dict[str, list[str]] = {}

    def visit(section: type[Section], path: str) -> None:
        for name, field in section.model_fields.items():
            where = f"{path}.{name}" if path else name
            found.setdefault(name, [])
            if path not in found[name]:
                found[name].append(path)
            for option in sections_of(field.annotation):
                visit(option, where)

    visit(Input, "")
    return found


def sections_of(annotation: Any) -> Iterator[type[Section]]:
    """Yield the section classes that a type allows."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from sections_of(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from sections_of(option)
    elif isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation


def written_key(section: type[Section] | None, data: dict[str, Any], key: Any) -> str | None:
    """Return a key of an object as it is written: itself, or an alias of it; None if neither is."""
    names = aliases(section) if section is not None else {}
    return key if key in data else next((name for name in data if names.get(name) == key), None)


def apply_overrides(
    data: dict[str, Any], overrides: Sequence[str]
) -> tuple[list[Path], list[Finding]]:
    """Write overrides into the data of an input, in place.

    Returns:
        The paths that were set, and a finding for each override that could not be applied.
    """
    paths: list[Path] = []
    findings: list[Finding] = []
    for override in overrides:
        try:
            paths.append(_apply(data, override))
        except _CannotApplyError as error:
            hint = "write --set section.key=value, such as --set training.numb_steps=10000"
            message = f"--set {override}: {error}"
            findings.append(Finding("ZOO008", (), message, hint))
    return paths, findings


class _CannotApplyError(Exception):
    """An override has no place in the data."""


def _apply(data: dict[str, Any], override: str) -> Path:
    dotted, equals, written = override.partition("=")
    parts = dotted.strip().split(".")
    if not equals:
        raise _CannotApplyError("there is no `=`")
    if not all(parts):
        raise _CannotApplyError("there is an empty key")
    target: Any = data
    path: tuple[str | int, ...] = ()
    for part in parts[:-1]:
        key = _key(data, target, part, path)
        if isinstance(target, dict) and key not in target:
            target[key] = {}
        target = target[key]
        path = (*path, key)
    key = _key(data, target, parts[-1], path)
    target[key] = _value(written)
    return (*path, key)


def _key(data: dict[str, Any], target: Any, part: str, path: Path) -> str | int:
    """Return the key or index by which a part of the dotted path reaches into the target."""
    where = ".".join(str(step) for step in path) or "the input"
    if isinstance(target, list):
        if part.isdigit() and int(part) < len(target):
            return int(part)
        raise _CannotApplyError(f"`{where}` is a list of {len(target)}; `{part}` is not in it")
    if not isinstance(target, dict):
        raise _CannotApplyError(f"`{where}` is a value and has no `{part}`")
    section = section_at(data, path)
    names = aliases(section) if section is not None else {}
    canonical = names.get(part, part)
    for other in list(target):
        if other != part and names.get(other, other) == canonical:
            target[part] = target.pop(other)  # the key is there under another of its names
    return part


def _value(written: str) -> Any:
    """Return the value as JSON, or as text if it is not JSON."""
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return written


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

    @property
    def head(self) -> str | None:
        """The branch of a checkpoint from which the task asks to start."""
        head = object_in(self.data, "model").get("finetune_head")
        return head if isinstance(head, str) else None

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


def sound_value(section: Any, dotted: str) -> Any:
    """Return a value of a section at a dotted path, None if it is missing or faulty."""
    try:
        for part in dotted.split("."):
            section = getattr(section, part)
    except (UnusableError, AttributeError):
        return None
    return section


def is_changed(section: Section, name: str) -> bool:
    """Return whether a key is written with another value than its default."""
    kind = class_of(section)
    default = kind.model_fields[name].default if kind is not None else None
    return name in section.model_fields_set and getattr(section, name) != default


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
