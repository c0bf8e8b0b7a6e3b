"""What a key of an input means: type, default, unit, effect; read off the models."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from schemas.descriptions import descriptions
from schemas.diagnostics import Path
from schemas.input import Input
from schemas.manual.types import type_words
from schemas.outline import places, sections_of
from schemas.section import NO_DEFAULT, Section, aliases
from schemas.suggest import nearest

_UNIT = re.compile(r"\bin (Å|eV/Å|eV)(?=\W|$)")
_BRANCHES = {"model_dict": "model", "loss_dict": "loss", "data_dict": "training"}


@dataclass(frozen=True, slots=True)
class Key:
    """What there is to know about a key.

    Args:
        path: Its dotted path.
        type: What is written there, in words.
        default: The default as JSON; None if the key is required or has none.
        required: Whether it must be given.
        unit: The unit of its numbers.
        effect: What it does.
        aliases: Its other names.
        only_for: The `type` of the section that has it, if not all have.
        keys: What the section holds, if it is one.
    """

    path: str
    type: str
    default: str | None
    required: bool
    unit: str | None
    effect: str
    aliases: tuple[str, ...] = ()
    only_for: str | None = None
    keys: "tuple[Key, ...]" = ()

    def document(self) -> dict[str, Any]:
        """Return the key as the JSON document of `zoo explain --json`."""
        return {
            "path": self.path,
            "type": self.type,
            "required": self.required,
            "default": None if self.default is None else json.loads(self.default),
            "unit": self.unit,
            "effect": self.effect,
            "aliases": list(self.aliases),
            "only_for": self.only_for,
            "keys": [item.document() for item in self.keys],
        }


def explain_path(dotted: str) -> Key | None:
    """Return what a dotted path means; None if there is no such key.

    The names of branches may be in it (`model.model_dict.water.descriptor`), and indices.
    """
    parts = tuple(part for part in dotted.strip().strip(".").split(".") if part)
    return explain_key(parts)


def explain_key(path: Path) -> Key | None:
    """Return what a path of an input means; None if there is no such key."""
    parts = _single_task(tuple(str(part) for part in path if not _is_index(part)))
    if not parts:
        return _root()
    options: list[type[Section]] = [Input]
    for part in parts[:-1]:
        options = [below for option in options for below in _below(option, part)]
    for option in options:
        name = aliases(option).get(parts[-1], parts[-1])
        if name in option.model_fields:
            return _key(option, name, (*parts[:-1], name), options)
    return None


def suggestions(dotted: str) -> list[str]:
    """Return paths that may have been meant: those that end alike, or else the nearest."""
    known = [
        f"{home}.{name}" if home else name for name, homes in places().items() for home in homes
    ]
    ending = [path for path in known if path.endswith(f".{dotted}")]
    if ending:
        return ending
    name = nearest(dotted.rpartition(".")[2], places())
    alike = [path for path in known if name is not None and path.rpartition(".")[2] == name]
    best = nearest(dotted, alike) or nearest(dotted, known)
    return ([best] if best else []) + [path for path in alike if path != best][:4]


def _is_index(part: str | int) -> bool:
    return isinstance(part, int) or part.isdigit()


def _single_task(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path that a path of a branch has in an input of a single task."""
    for index, part in enumerate(parts[:2]):
        if part in _BRANCHES and len(parts) > index + 2:
            return (_BRANCHES[part], *parts[index + 2 :])
    return parts


def _below(section: type[Section], part: str) -> list[type[Section]]:
    field = section.model_fields.get(aliases(section).get(part, part))
    return [] if field is None else list(sections_of(field.annotation))


def _root() -> Key:
    keys = tuple(_key(Input, name, (name,), [Input], depth=1) for name in Input.model_fields)
    effect = (Input.__doc__ or "").strip()
    return Key("", "an object", None, True, None, effect, keys=keys)


def _key(
    section: type[Section],
    name: str,
    path: tuple[str, ...],
    siblings: list[type[Section]],
    depth: int = 0,
) -> Key:
    field = section.model_fields[name]
    effect = descriptions(section).get(name, "")
    unit = _UNIT.search(effect)
    has_default = field.default is not PydanticUndefined and NO_DEFAULT not in field.metadata
    shown = None
    if has_default and not isinstance(field.default, Section):
        shown = json.dumps(field.default, ensure_ascii=False)
    inner = list(sections_of(field.annotation))
    return Key(
        path=".".join(path),
        type="an object" if inner else type_words(section, name),
        default=shown,
        required=field.is_required(),
        unit=unit[1] if unit else None,
        effect=effect,
        aliases=tuple(alias for alias, key in aliases(section).items() if key == name),
        only_for=_only_for(section, name, siblings),
        keys=tuple(_keys_of(inner, path)) if depth == 0 else (),
    )


def _keys_of(options: list[type[Section]], path: tuple[str, ...]) -> Iterator[Key]:
    seen: set[str] = set()
    for option in options:
        for name in option.model_fields:
            if name not in seen:
                seen.add(name)
                yield _key(option, name, (*path, name), options, depth=1)


def _only_for(section: type[Section], name: str, siblings: list[type[Section]]) -> str | None:
    having = [item for item in siblings if name in item.model_fields]
    if len(having) == len(siblings) or "type" not in section.model_fields:
        return None
    kinds = [str(item.model_fields["type"].annotation) for item in having]
    return ", ".join(re.findall(r"'([^']+)'", " ".join(kinds))) or None
