"""What pydantic finds wrong, said in the words of the input file, once for each fault."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic_core import ErrorDetails

from schemas.base.diagnostics import Finding, Group, Move, Path, Remove, dotted
from schemas.base.names import did_you_mean, is_sure, nearest
from schemas.input.migrations import WITHOUT_EFFECT, is_flat, nested_layout
from schemas.input.model import has_key, likely_descriptor
from schemas.input.root import Input
from schemas.input.section import Section, aliases, is_comment
from schemas.input.view import places, section_at, sections_of, written_key

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "union_tag_not_found": "an object",
}
_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}
_FORMER_NAMES = {"sel": "nsel", "three_body_nsel": "three_body_sel"} | {
    "fp64": "float64",
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
}
"""What people write from habit, where the spelling alone would mislead the suggestion."""


def real_path(data: Any, location: tuple[int | str, ...]) -> Path:
    """Return the path in the data of an error's location, which also names union members."""
    path: tuple[str | int, ...] = ()
    value = data
    for index, part in enumerate(location):
        if isinstance(value, dict):
            key = written_key(section_at(data, path), value, part)
            if key is None and index < len(location) - 1:
                continue
            path = (*path, part if key is None else key)
            value = value.get(key)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path = (*path, part)
            value = value[part]
    return path


def explain(data: Any, error: ErrorDetails) -> Finding:
    """Return the finding for one error of pydantic."""
    kind = error["type"]
    path = real_path(data, error["loc"])
    if kind == "missing":
        return _missing(path)
    if kind == "extra_forbidden":
        return _unknown(data, path)
    if kind in _WANTED:
        return _wrong_type(path, _WANTED[kind], error["input"])
    return _wrong_value(path, error)


_BOTH_BLOCKS = "dpa2 needs both `repinit` and `repformer`"
_IF_MISSING = {
    "learning_rate": 'write "learning_rate": '
    '{"type": "exp", "start_lr": 0.001, "stop_lr": 3.5e-08}',
    "loss": 'write "loss": {} for the defaults',
    "repinit": _BOTH_BLOCKS,
    "repformer": _BOTH_BLOCKS,
    "type_map": 'list the elements of the data, such as "type_map": ["O", "H"]',
    "type": 'write "type": "dpa2"',
}
"""What to write for a key that is missing."""


def _missing(path: Path) -> Finding:
    name = str(path[-1])
    where = f" in `{dotted(path[:-1])}`" if len(path) > 1 else ""
    message = f"required key `{name}` is missing{where}"
    return Finding("ZOO101", path, message, _IF_MISSING.get(name))


def _unknown(data: Any, path: Path) -> Finding:
    name = str(path[-1])
    section = section_at(data, path[:-1])
    known = list(section.model_fields) if section is not None else []
    others = aliases(section) if section is not None else {}
    if name in known or name in others:
        return _given_twice(data, path, others)
    unknown = partial(Finding, "ZOO102", path, at="key")
    message, former = f"unknown key `{name}`", _FORMER_NAMES.get(name)
    best = former if former in known else nearest(name, [*known, *others])
    homes = [home for home in places().get(name, []) if home != dotted(path[:-1])]
    if is_flat(name, path):
        block, _, key = name.partition("_")
        hint = f"this is the layout of 3.0 alpha; write `{key}` inside `{block}`"
        change = nested_layout(_object_at(data, path[:-1]), path[:-1])
        return unknown(message, hint, fix=change)
    if name in WITHOUT_EFFECT:
        hint = f"remove it; {WITHOUT_EFFECT[name]}"
        return unknown(message, hint, fix=Remove())
    kind = _other_kind(data, path, section)
    group = Group(f"keys of {kind}") if kind is not None else None
    if kind is not None:
        message = f"`{name}` is a key of `{kind}`, not of `dpa2`"
    if homes and former is None:
        group = group or Group(f"keys of {' and '.join(homes)}")
        quoted = [f"`{home}`" if home else "the top level" for home in homes]
        hint = f"it belongs into {' or '.join(quoted)}"
        home = tuple(homes[0].split(".")) if homes[0] else ()
        fix = Move(((path, (*home, name)),)) if len(homes) == 1 else None
        return unknown(message, hint, fix=fix, group=group)
    if best is not None and kind is None:
        hint = f"did you mean `{best}`?"
        sure = former == best or is_sure(name, [*known, *others])
        return unknown(message, hint, fix=best, safe=sure)
    if former is not None:
        hint = f"dpa2 has `{former}` inside `repinit` and `repformer`"
    else:
        hint = "remove it, or begin it with an underscore to keep it as a comment"
    return unknown(message, hint, group=group)


def _given_twice(data: Any, path: Path, others: Mapping[str, str]) -> Finding:
    """Return the fault of a key that is there under another of its names, too."""
    name, written = str(path[-1]), _object_at(data, path[:-1])
    canonical = others.get(name, name)
    message = f"`{name}` is another name of `{canonical}`, which is given too"
    given = [key for key in written if key != name and others.get(key, key) == canonical]
    related = tuple(("the other one", (*path[:-1], key)) for key in given)
    fix = Remove() if any(written[key] == written.get(name) for key in given) else None
    hint = f"keep `{canonical}` only"
    return Finding("ZOO106", path, message, hint, at="key", fix=fix, related_paths=related)


def _other_kind(data: Any, path: Path, section: type[Section] | None) -> str | None:
    """Return the descriptor from which an unknown key was taken over, together with others."""
    if section is None or section.__name__ != "Descriptor":
        return None
    known = {*section.model_fields, *aliases(section)}
    given = _object_at(data, path[:-1])
    unknown = [key for key in given if key not in known and not is_comment(key)]
    homes = {tuple(places().get(key, ())) for key in unknown}
    if len(homes) == 1 and len(next(iter(homes))) == 1:
        return None  # they are all of one block
    kind = likely_descriptor(unknown)
    return kind if kind is not None and has_key(kind, str(path[-1])) else None


def _object_at(data: Any, path: Path) -> Mapping[str, Any]:
    value = data
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _wrong_type(path: Path, wanted: str, value: Any) -> Finding:
    name = dotted(path[-2:]) if path and isinstance(path[-1], int) else str(path[-1])
    message = f"`{name}` must be {wanted}, not {shown(value)}"
    right = _converted(wanted, value)
    hint = f"write {right}" if right is not None else None
    group = Group(f"items must be {wanted}") if path and isinstance(path[-1], int) else None
    return Finding("ZOO103", path, message, hint, fix=right, group=group)


def _converted(wanted: str, value: Any) -> str | None:
    """Return the value as the type that was wanted, if it plainly is one."""
    if wanted == "a whole number" and isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and wanted in ("a whole number", "a number", "true or false"):
        try:
            read = json.loads(value.strip().lower())
        except ValueError:
            return None
        is_flag = isinstance(read, bool)
        fits = is_flag if wanted == "true or false" else not is_flag and read is not None
        if fits and (wanted != "a whole number" or isinstance(read, int)):
            text = json.dumps(read)
            return re.sub(r"^(-?\d+)e", r"\1.0e", text)  # YAML reads 1e-3 as a text
    return None


def _wrong_value(path: Path, error: ErrorDetails) -> Finding:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    name = dotted(path[-2:]) if path and isinstance(path[-1], int) else str(path[-1])
    if kind in _BOUNDS:
        sign, bound = _BOUNDS[kind]
        message = f"`{name}` must be {sign} {shown(context[bound])}, not {shown(value)}"
        group = Group(f"items must be {sign}") if path and isinstance(path[-1], int) else None
        return Finding("ZOO104", path, message, group=group)
    if kind == "literal_error":
        choices = [
            part.strip("'") for part in context["expected"].replace(" or ", ", ").split(", ")
        ]
        return wrong_choice(path, f"`{name}` cannot be {shown(value)}", value, choices)
    if kind == "choice":
        return wrong_choice(path, error["msg"], value, list(context["choices"]))
    if kind == "string_pattern_mismatch":
        message = f"`{name}` must be a number, `auto` or `auto:FACTOR`, not {shown(value)}"
        number = _converted("a whole number", value)
        hint = f"write {number}" if number else 'such as "auto:1.2"'
        return Finding("ZOO107", path, message, hint, fix=number)
    if kind in ("too_short", "too_long", "string_too_short"):
        limit = context.get("min_length", context.get("max_length"))
        word = "at least" if kind != "too_long" else "at most"
        message = (
            f"`{name}` must have {word} {limit} entries, not {context.get('actual_length', 0)}"
        )
        return Finding("ZOO107", path, message)
    if kind == "finite_number":
        return Finding("ZOO005", path, f"`{name}` must be a finite number")
    return Finding("ZOO107", path, error["msg"], context.get("hint"))


def wrong_choice(path: Path, message: str, value: Any, choices: Sequence[str]) -> Finding:
    """Return the fault of a value that is none of the choices, with the nearest as its fix."""
    former = _FORMER_NAMES.get(value.lower()) if isinstance(value, str) else None
    best = former if former in choices else nearest(value, choices)
    hint = did_you_mean(value, choices) if best is None else f"did you mean `{best}`?"
    sure = former == best or is_sure(value, choices)
    fix = None if best is None else json.dumps(best)
    return Finding("ZOO105", path, message, hint, fix=fix, safe=sure)


def shown(value: Any) -> str:
    """Return a value as it is written in the file, shortened."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def without_consequences(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings of one task without those that follow from others.

    A section is not missing if it is in another place, or if its keys are there in the flat
    layout of 3.0 alpha; a key of a schedule or optimiser is not unknown if only the type of that
    is.
    """
    unknown = [item for item in findings if item.code == "ZOO102"]
    misplaced = {item.path[-1] for item in unknown}
    flat = [item for item in unknown if str(item.path[-1]).startswith(("repinit_", "repformer_"))]
    flattened = {str(item.path[-1]).partition("_")[0] for item in flat}
    elsewhere = Counter((item.group.name, item.path[:-1]) for item in unknown if item.group)
    guessed = {
        item.path[0] for item in findings if item.code == "ZOO105" and item.path[1:] == ("type",)
    }
    kept = []
    for item in findings:
        missing = item.code == "ZOO101" and item.path
        if missing and item.path[-1] in misplaced | flattened:
            continue
        if missing and any(
            count > 1 and _covers(name, item.path) and item.path[:-1] == section
            for (name, section), count in elsewhere.items()
        ):
            continue
        if item in flat[1:]:
            continue  # the first speaks for all
        if item.code == "ZOO102" and item.path[0] in guessed and _of_a_variant(item):
            continue
        kept.append(item)
    return kept


def _covers(group: str, path: Path) -> bool:
    """Return whether keys of a group, side by side, are what a missing block should hold."""
    if path[-1] not in ("repinit", "repformer"):
        return False
    homes = group.removeprefix("keys of ").split(" and ")
    return dotted(path) in homes or "." not in group


def _of_a_variant(item: Finding) -> bool:
    """Return whether some kind of the section has the key."""
    return any(
        item.path[-1] in {*section.model_fields, *aliases(section)}
        for section in sections_of(Input.model_fields[str(item.path[0])].annotation)
    )
