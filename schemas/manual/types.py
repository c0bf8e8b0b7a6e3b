"""The type of a key in words, from its JSON Schema."""

from functools import cache
from typing import Any

from schemas.section import Section

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
