"""Which section belongs where: the classes behind the keys of an input."""

import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from schemas.diagnostics import Path
from schemas.input import Input
from schemas.section import Section, aliases


def section_at(data: Any, path: Path) -> type[Section] | None:
    """Return the section class that describes the object at a path of an input, if any."""
    section: type[Section] | None = Input
    value = data
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
        section = child(section, part, value) if section is not None else None
    return section


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
