"""JSON Schema of the input, for editors: completion, descriptions, unknown keys underlined."""

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from schemas.descriptions import descriptions
from schemas.export_multitask import IS_MULTI_TASK, as_written
from schemas.input import Input
from schemas.multitask import MultiTaskInput
from schemas.section import Section, aliases

EXPORTED = Path(__file__).parent / "json" / "input.schema.json"
"""Where the committed schema is."""
_COMMENTS = {r"^(_|\$schema$)": {"description": "A comment."}}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of inputs, of one task or of several.

    One document serves both, so that editors need no setting: what only inputs with branches
    have decides which part holds. Aliases are properties too, and keys that begin with an
    underscore are allowed everywhere, as in the input file itself.
    """
    single, multi = Input.model_json_schema(), MultiTaskInput.model_json_schema()
    definitions: dict[str, Any] = multi.pop("$defs") | single.pop("$defs")
    definitions |= {"Input": single, "MultiTaskInput": multi}
    classes = {section.__name__: section for section in _subclasses(Section)}
    for name, definition in definitions.items():
        if name in classes and "properties" in definition:
            _complete(definition, classes[name])
    as_written(definitions)
    for root in (single, multi):
        root["properties"]["$schema"] = {"type": "string", "description": "This schema."}
    _allow_comments(definitions)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "DPA-2 training input",
        "description": "A training of one task, or of several branches.",
        "if": IS_MULTI_TASK,
        "then": {"$ref": "#/$defs/MultiTaskInput"},
        "else": {"$ref": "#/$defs/Input"},
        "$defs": dict(sorted(definitions.items())),
    }


def _complete(definition: dict[str, Any], section: type[Section]) -> None:
    properties: dict[str, Any] = definition["properties"]
    names, texts = aliases(section), descriptions(section)
    for name, entry in properties.items():
        entry["description"] = texts.get(name, "")
    for alias, name in names.items():
        description = f"Another name of `{name}`. {properties[name].get('description', '')}"
        properties[alias] = {**properties[name], "description": description.strip()}
    definition["patternProperties"] = _COMMENTS
    required = [key for key in definition.get("required", []) if key not in names.values()]
    if "required" in definition:
        definition["required"] = required


def _allow_comments(schema: Any) -> None:
    """Allow comments in objects with free keys, too."""
    for entry in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(entry, (dict, list)):
            _allow_comments(entry)
    if isinstance(schema, dict) and isinstance(schema.get("additionalProperties"), dict):
        schema["patternProperties"] = _COMMENTS


def _subclasses(section: type[Section]) -> list[type[Section]]:
    direct = section.__subclasses__()
    return [*direct, *(below for item in direct for below in _subclasses(item))]


def text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    EXPORTED.parent.mkdir(exist_ok=True)
    EXPORTED.write_text(text(), encoding="utf-8")
