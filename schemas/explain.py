"""What `zoo explain` says: texts on every code, and the meaning of every key."""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic_core import PydanticUndefined

from schemas.base import diagnostics
from schemas.base.names import nearest
from schemas.check.rule import RULES
from schemas.input.root import Input, MultiTaskInput, MultiTaskModel
from schemas.input.section import NO_DEFAULT, Section, aliases, descriptions
from schemas.input.view import places, sections_of

_FOLDER = Path(__file__).with_name("manual")
REMOVED = "<remove>"
"""Stands for the absence of a key in an example."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What there is to know about a code.

    Args:
        code: The code.
        meaning: One sentence: what is wrong, or what the rule demands.
        why: Why it matters.
        fix: What to do.
        text: A text with the fault.
        changes: Dotted paths and values that put the fault into a good input.
        right: The same paths with values that are right.
        base: Which good input: of a single task or multi-task.
        situation: The fault in words, where it is not in the input alone.
        start: The checkpoint that is started from: `option`, `branch`, `branches`, `steps`.
        right_start: How it would be right.
        wrong_text: The fault as a command, a file or a piece of an input, if only shown.
        right_text: The same without the fault.
    """

    code: str
    meaning: str
    why: str
    fix: str
    text: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    right: dict[str, Any] = field(default_factory=dict)
    base: str = "single-task"
    situation: str | None = None
    start: dict[str, Any] = field(default_factory=dict)
    right_start: dict[str, Any] | None = None
    wrong_text: str | None = None
    right_text: str | None = None

    def example(self) -> str:
        """Return the fault in words, as text, and what is right in its place."""
        wrong = [self.wrong_text] if self.wrong_text is not None else []
        if self.text is not None:
            wrong = [self.text.replace("\ufeff", "<byte order mark>") or "(an empty file)"]
        wrong += [_shown(path, value) for path, value in self.changes.items()]
        right = [self.right_text] if self.right_text is not None else []
        right += [_shown(path, value) for path, value in self.right.items()]
        if self.right_start is not None:
            right.append(_command(self.right_start))
        lines = [self.situation] if self.situation is not None else []
        if self.start and self.right_start is None:
            lines.append(f"with `{_command(self.start)}`:")
        elif self.start:
            wrong.append(_command(self.start))
        lines += [f"wrong: {line}" for line in wrong]
        lines += [f"right: {line}" for line in right]
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return the entry as the JSON document of `zoo explain --json`."""
        return {
            "code": self.code,
            "meaning": self.meaning,
            "why": self.why,
            "example": self.example(),
            "fix": self.fix,
        }


def _shown(path: str, value: Any) -> str:
    import json

    section, _, key = path.rpartition(".")
    where = f"in {section}: " if section else ""
    return f'{where}no "{key}"' if value == REMOVED else f'{where}"{key}": {json.dumps(value)}'


def _command(start: dict[str, Any]) -> str:
    options = f" {start['option']} model.pt" if start else ""
    branch = f" --branch {start['branch']}" if "branch" in start else ""
    return f"zoo validate input.json{options}{branch}"


@cache
def entries() -> dict[str, Entry]:
    """Return every entry by its code; the meaning of a rule is what it demands."""
    import schemas.check.task  # noqa: F401 - registers the rules

    demands = {rule.code: rule.demand for rule in RULES}
    found: dict[str, Entry] = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        for code, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            found[code] = Entry(code, table.pop("meaning", demands.get(code)), **table)
    return found


def nearest_code(word: str) -> str | None:
    """Return the code most like a word."""
    return nearest(word.upper(), entries())


_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_SCALARS = ("integer", "number", "string", "boolean")
_SIGNS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_SPECIAL = {
    "batch_size": "a whole number, a list of them, or `auto`, `auto:N`, `max:N`, `mix:N`, ...",
    "activation_function": "one of `tanh`, `gelu`, `silu`, `silut:T`, `relu`, `softplus`, ...",
}


def type_words(section: type[Section], name: str) -> str:
    """Return what may be written for a key of a section, in words."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    return _words(_properties(section).get(name, {}))


@cache
def _properties(section: type[Section]) -> dict[str, Any]:
    properties: dict[str, Any] = section.model_json_schema()["properties"]
    return properties


def _words(entry: dict[str, Any]) -> str:
    options = entry.get("anyOf") or entry.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_words(option) for option in options))
    if "enum" in entry:
        return "one of " + ", ".join(f"`{value}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    if "pattern" in entry:
        return "`auto`, `auto:FACTOR`" if "auto" in entry["pattern"] else "a text"
    kind = entry.get("type")
    if kind == "array":
        items = _words(entry["items"]) if entry.get("items") else "values"
        return f"a list: {items} each"
    each = entry.get("additionalProperties")
    if kind == "object" and isinstance(each, dict) and each.get("type") in _SCALARS:
        return f"an object: {_words(each)} each"
    words = _WORDS.get(str(kind), "a value")
    bounds = [f"{sign} {entry[key]:g}" for key, sign in _SIGNS.items() if key in entry]
    return " ".join([words, " and ".join(bounds)]).strip()


_UNIT = re.compile(r"\bin (Å|eV/Å|eV)(?=\W|$)")
_BRANCHES = {"model_dict": "model", "loss_dict": "loss", "data_dict": "training"}
_SHARED = ("model", "shared_dict")


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
    """Return what a path means; None if there is no such key.

    Parts are separated by dots or slashes. The names of branches and of shared parts may be in it
    (`model.model_dict.water.descriptor`), and indices. The last part alone is enough where only
    one key is called so.
    """
    parts = tuple(part for part in re.split(r"[./]", dotted.strip()) if part)
    found = explain_key(parts)
    if found is None and len(parts) == 1:
        homes = _ending(parts[0])
        found = explain_path(homes[0]) if len(homes) == 1 else None
    return found


def explain_key(path: diagnostics.Path) -> Key | None:
    """Return what a path of an input means; None if there is no such key."""
    parts = tuple(str(part) for part in path if not str(part).isdigit())
    if not parts:
        return _root()
    for written in (parts, *_single_task(parts)):
        for root in (Input, MultiTaskInput):
            options: list[type[Section]] = [root]
            for part in written[:-1]:
                options = [below for option in options for below in _below(option, part)]
            for option in options:
                name = aliases(option).get(written[-1], written[-1])
                if name in _names(option):
                    return _key(option, name, (*written[:-1], name), options)
    if parts[:2] == _SHARED and len(parts) > 2:
        kinds = "a type_map, a descriptor or a fitting net"
        effect = descriptions(MultiTaskModel)["shared_dict"]
        return Key(".".join(parts), kinds, None, False, None, effect)
    above = explain_key(parts[:-1]) if len(parts) > 1 else None
    is_free = above is not None and above.type.startswith("an object") and not above.keys
    return above if is_free else None  # any name is right there


def suggestions(dotted: str) -> list[str]:
    """Return paths that may have been meant: those that end alike, or else the nearest."""
    ending = _ending(dotted)
    if ending:
        return ending
    known = _paths()
    name = nearest(dotted.rpartition(".")[2], [path.rpartition(".")[2] for path in known])
    alike = [path for path in known if name is not None and path.rpartition(".")[2] == name]
    best = nearest(dotted, alike) or nearest(dotted, known)
    return ([best] if best else []) + [path for path in alike if path != best][:4]


def _ending(dotted: str) -> list[str]:
    return [path for path in _paths() if path.endswith(f".{dotted}")]


@cache
def _paths() -> list[str]:
    """Return the paths of all keys; those in a branch as in an input of one task."""
    single = [
        f"{home}.{name}" if home else name for name, homes in places().items() for home in homes
    ]
    several = _names(MultiTaskInput) + [
        f"{above}.{name}" for above, section in _sections_of_several() for name in _names(section)
    ]
    return list(dict.fromkeys((*single, *several)))


def _sections_of_several() -> Iterator[tuple[str, type[Section]]]:
    """Yield the sections that an input with branches has in the place of those of one task."""
    for name in _names(MultiTaskInput):
        for section in _below(MultiTaskInput, name):
            if section not in _below(Input, name):
                yield name, section


def _names(section: type[Section]) -> list[str]:
    """Return the keys of a section; what is derived from them is none."""
    return [name for name, field in section.model_fields.items() if not field.exclude]


def _single_task(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths that a path of a branch may have in an input of a single task.

    There may be several because a name may have dots in it.
    """
    for index, part in enumerate(parts[:2]):
        if part in _BRANCHES:
            yield from ((_BRANCHES[part], *parts[i:]) for i in range(index + 2, len(parts) + 1))
    if parts[:2] == _SHARED:
        for component in ("descriptor", "fitting_net"):
            yield from (("model", component, *parts[i:]) for i in range(3, len(parts)))


def _below(section: type[Section], part: str) -> list[type[Section]]:
    field = section.model_fields.get(aliases(section).get(part, part))
    return [] if field is None else list(sections_of(field.annotation))


def _of_each_branch(annotation: Any) -> list[type[Section]]:
    """Return the sections that an object has under the names of branches."""
    if get_origin(annotation) is Annotated:
        return _of_each_branch(get_args(annotation)[0])
    return list(sections_of(get_args(annotation)[1])) if get_origin(annotation) is dict else []


def _root() -> Key:
    keys = tuple(_keys_of([Input], ()))
    more = (key for key in _keys_of([MultiTaskInput], ()) if key.path not in Input.model_fields)
    effect = (Input.__doc__ or "").strip()
    return Key("", "an object", None, True, None, effect, keys=(*keys, *more))


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
    inner, each = list(sections_of(field.annotation)), _of_each_branch(field.annotation)
    kind = "an object" if inner else type_words(section, name)
    above = ".".join(path)
    several = [below for at, below in _sections_of_several() if at == above]
    return Key(
        path=above,
        type=f"{kind}: a section for each branch" if each else kind,
        default=shown,
        required=field.is_required(),
        unit=unit[1] if unit else None,
        effect=effect,
        aliases=tuple(alias for alias, key in aliases(section).items() if key == name),
        only_for=_only_for(section, name, siblings),
        keys=tuple(_keys_of([*inner, *each], path, several)) if depth == 0 else (),
    )


def _keys_of(
    options: list[type[Section]], path: tuple[str, ...], several: Sequence[type[Section]] = ()
) -> Iterator[Key]:
    """Yield the keys of sections, then those that they have in an input with branches only."""
    seen: set[str] = set()
    for siblings in (options, several):
        for option in siblings:
            for name in _names(option):
                if name not in seen:
                    seen.add(name)
                    yield _key(option, name, (*path, name), list(siblings), depth=1)


def _only_for(section: type[Section], name: str, siblings: list[type[Section]]) -> str | None:
    having = [item for item in siblings if name in item.model_fields]
    if len(having) == len(siblings) or "type" not in section.model_fields:
        return None
    kinds = [str(item.model_fields["type"].annotation) for item in having]
    return ", ".join(re.findall(r"'([^']+)'", " ".join(kinds))) or None
