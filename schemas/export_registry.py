"""JSON Schema of `registry.yaml`, for editors and for programs that write registries."""

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from schemas import registry
from schemas.descriptions import descriptions

EXPORTED = Path(__file__).parent / "json" / "registry.schema.json"
"""Where the committed schema is."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a registry."""
    schema: dict[str, Any] = registry.Registry.model_json_schema()
    for name, definition in {**schema["$defs"], "Registry": schema}.items():
        texts = descriptions(getattr(registry, name))
        for key, entry in definition["properties"].items():
            entry["description"] = texts[key]
    title = {"$schema": GenerateJsonSchema.schema_dialect, "title": "Registry of models"}
    return title | {key: value for key, value in schema.items() if key != "title"}


def text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    EXPORTED.parent.mkdir(exist_ok=True)
    EXPORTED.write_text(text(), encoding="utf-8")
