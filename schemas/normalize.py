"""The dictionary of a section with every default filled in, as deepmd-kit writes `out.json`."""

from typing import Any

from schemas.input import Input
from schemas.multitask import MultiTaskInput
from schemas.section import NO_DEFAULT, Section


def normalized(section: Section) -> dict[str, Any]:
    """Return a section as deepmd-kit 3.2 normalises it: canonical keys, every default filled in.

    Keys for which deepmd-kit has no default (`seed`, `stat_file`, ...) appear only if they were
    given. The result is made of dicts, lists, strings, numbers, booleans and None.
    """
    document = {
        name: _plain(getattr(section, name))
        for name, field in type(section).model_fields.items()
        if not field.exclude
        and (name in section.model_fields_set or NO_DEFAULT not in field.metadata)
    }
    if (
        isinstance(section, (Input, MultiTaskInput))
        and "validating" not in section.model_fields_set
    ):
        document["validating"] = {}  # deepmd-kit fills in this section only if it is there
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return normalized(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
