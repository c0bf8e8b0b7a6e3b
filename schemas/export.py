"""JSON Schema of the input, for editors: completion, descriptions, unknown keys underlined."""

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from schemas.input import Input
from schemas.section import Section, aliases

EXPORTED = Path(__file__).parent / "json" / "input.schema.json"
"""Where the committed schema is."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a single-task input.

    Aliases are properties too, and keys that begin with an underscore are allowed everywhere, as
    in the input file itself.
    """
    document = Input.model_json_schema()
    classes = {section.__name__: section for section in _subclasses(Section)}
    definitions: dict[str, Any] = document.get("$defs", {})
    for name, definition in [*definitions.items(), ("Input", document)]:
        if name in classes and "properties" in definition:
            _complete(definition, classes[name])
    document["properties"]["$schema"] = {"type": "string", "description": "This schema."}
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "DPA-2 training input",
        **{key: value for key, value in document.items() if key != "title"},
    }


def _complete(definition: dict[str, Any], section: type[Section]) -> None:
    properties: dict[str, Any] = definition["properties"]
    names = aliases(section)
    for name, entry in properties.items():
        entry.setdefault("description", section.model_fields[name].description or "")
    for alias, name in names.items():
        description = f"Another name of `{name}`. {properties[name].get('description', '')}"
        properties[alias] = {**properties[name], "description": description.strip()}
    definition["patternProperties"] = {"^_": {"description": "A comment."}}
    required = [key for key in definition.get("required", []) if key not in names.values()]
    if "required" in definition:
        definition["required"] = required


def _subclasses(section: type[Section]) -> list[type[Section]]:
    direct = section.__subclasses__()
    return [*direct, *(below for item in direct for below in _subclasses(item))]


def text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    EXPORTED.parent.mkdir(exist_ok=True)
    EXPORTED.write_text(text(), encoding="utf-8")
