"""JSON Schemas of the input file and of `registry.yaml`, for editors and other programs."""

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from schemas import registry
from schemas.input.branches import COMPONENTS, LEVELS
from schemas.input.root import Input, MultiTaskInput, MultiTaskModel
from schemas.input.section import Section, aliases, descriptions

INPUT_SCHEMA = Path(__file__).parent / "json" / "input.schema.json"
REGISTRY_SCHEMA = INPUT_SCHEMA.with_name("registry.schema.json")
"""Where the committed schemas are."""

_DEFINED = {"descriptor": "Descriptor", "fitting_net": "EnergyFitting"}
_KEYS = ("shared_dict", "model_dict", "fitting_net_dict")

IS_MULTI_TASK: dict[str, Any] = {
    "anyOf": [
        {"required": ["loss_dict"]},
        {"properties": {"training": {"required": ["data_dict"]}}, "required": ["training"]},
        {
            "properties": {"model": {"anyOf": [{"required": [key]} for key in _KEYS]}},
            "required": ["model"],
        },
    ]
}
"""What holds of inputs that have branches, or were meant to."""


def describe_as_written(definitions: dict[str, Any]) -> None:
    """Change the definitions of a multi-task input to what stands in the file.

    Args:
        definitions: The `$defs` of the schema, complete with aliases.
    """
    multi, model = definitions["MultiTaskInput"], definitions["Model"]
    del multi["properties"]["links"], definitions["Link"]
    branch = {**model, "title": "Branch", "description": "The model of one branch."}
    branch["properties"] = {**model["properties"]}
    for component in COMPONENTS:
        written = model["properties"][component]
        branch["properties"][component] = {
            "description": f"{written['description']} Or its name in `shared_dict`.",
            "if": {"type": "string"},
            "then": {"type": "string", "pattern": _reference(component)},
            "else": {key: value for key, value in written.items() if key != "description"},
        }
    required = branch.pop("required")
    definitions["Branch"] = branch
    definitions["SharedPart"] = _shared_part(model)
    several = definitions["MultiTaskModel"]
    own = several["properties"]
    own["shared_dict"] |= {"additionalProperties": {"$ref": "#/$defs/SharedPart"}}
    own["model_dict"] |= {"additionalProperties": {"$ref": "#/$defs/Branch"}, "minProperties": 1}
    own["model_dict"].pop("minLength")
    several["description"] = MultiTaskModel.__doc__
    several["properties"] = own | {
        key: {**entry, "description": f"{entry['description']} For branches without it."}
        for key, entry in branch["properties"].items()
    }
    several["allOf"] = [_in_each_branch(key) for key in required]


def _reference(component: str) -> str:
    levels = "".join(str(level) for level in LEVELS[component])
    return f"^[^:]*(:[{levels}])?$" if levels else "^[^:]*$"


def _shared_part(model: dict[str, Any]) -> dict[str, Any]:
    type_map = model["properties"]["type_map"]
    other_type = {"properties": {"type": {"not": {"const": "ener"}}}, "required": ["type"]}
    blocks = [{"required": [key]} for key in ("repinit", "repformer")]
    return {
        "description": "A type_map, a descriptor or a fitting net that branches name.",
        "if": {"type": "array"},
        "then": {key: value for key, value in type_map.items() if key != "description"},
        "else": {
            "if": {"anyOf": [*blocks, other_type]},
            "then": {"$ref": f"#/$defs/{_DEFINED['descriptor']}"},
            "else": {"$ref": f"#/$defs/{_DEFINED['fitting_net']}"},
        },
    }


def _in_each_branch(key: str) -> dict[str, Any]:
    """Return the demand that each branch has a key that `model` does not have."""
    branches = {"type": "object", "additionalProperties": {"required": [key]}}
    return {
        "if": {"not": {"required": [key]}},
        "then": {"properties": {"model_dict": branches}},
    }


_COMMENTS = {r"^(_|\$schema$)": {"description": "A comment."}}


def input_schema() -> dict[str, Any]:
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
    describe_as_written(definitions)
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


def registry_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a registry."""
    schema: dict[str, Any] = registry.Registry.model_json_schema()
    for name, definition in {**schema["$defs"], "Registry": schema}.items():
        texts = descriptions(getattr(registry, name))
        for key, entry in definition["properties"].items():
            entry["description"] = texts[key]
    title = {"$schema": GenerateJsonSchema.schema_dialect, "title": "Registry of models"}
    return title | {key: value for key, value in schema.items() if key != "title"}


def committed() -> dict[Path, str]:
    """Return the text of each committed schema by its file."""
    schemas = {INPUT_SCHEMA: input_schema(), REGISTRY_SCHEMA: registry_schema()}
    return {
        file: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for file, schema in schemas.items()
    }


if __name__ == "__main__":
    for file, text in committed().items():
        file.write_text(text, encoding="utf-8")
