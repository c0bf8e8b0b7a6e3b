"""The JSON Schema of a multi-task input as people write it, with names in the place of parts.

The models describe branches with everything put in; in the file, a branch may refer to a part of
`shared_dict`, or leave a key to `model`.
"""

from typing import Any

from schemas.multitask import MultiTaskModel
from schemas.reference import COMPONENTS, LEVELS

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


def as_written(definitions: dict[str, Any]) -> None:
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
