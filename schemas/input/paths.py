"""Paths in an input: the section classes behind them, and values set from the command line."""

import json
import types
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from schemas.base.diagnostics import Finding, Path
from schemas.input.root import Input
from schemas.input.section import Section, aliases


def section_at(data: Any, path: Path) -> type[Section] | None:
    """Return the section class that describes the object at a path of an input, if any."""
    section: type[Section] | None = Input
    value = data
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
        section = child(section, part, value) if section is not None else None
    return section


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


def as_written(data: Any, path: Path) -> Path:
    """Return a path with the keys as the data have them, where they use an alias."""
    result: tuple[str | int, ...] = ()
    section: type[Section] | None = Input
    value = data
    for part in path:
        key = part
        if isinstance(value, dict) and part not in value and section is not None:
            names = aliases(section)
            key = next((other for other in value if names.get(other) == part), part)
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = None
        section = child(section, key, value) if section is not None else None
        result = (*result, key)
    return result


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
