"""An input whose data are all elsewhere: written for another folder or machine."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from schemas.diagnostics import Finding
from schemas.rules.data_folders import exists

MISSING = "ZOO401"


def without_absent_data(
    data: dict[str, Any], findings: Sequence[Finding], *, elsewhere: bool = False
) -> list[Finding]:
    """Return the findings, with one warning where no path of the input's data exists here.

    A path that is missing beside others that exist is a fault of the input. Where all are missing,
    the input may be right where its data are, and everything else in it can still be checked.

    Args:
        data: The data of the file.
        findings: What was found.
        elsewhere: Whether the data are known to be on another machine, whatever exists here.
    """
    written = list(_systems(data.get("training")))
    missing = [item for item in findings if item.code == MISSING]
    if not missing:
        return list(findings)
    if not elsewhere and any(exists(Path(text.partition("#")[0])) for text in written):
        return list(findings)
    first, rest = missing[0], [item for item in findings if item.code != MISSING]
    if elsewhere:
        message = f"{len(missing)} of {len(written)} paths of data do not exist below {Path.cwd()}"
        return [*rest, dataclasses.replace(first, message=message, hint=None, severity="warning")]
    number = "the path" if len(written) == 1 else f"none of the {len(written)} paths"
    verb = "does not exist" if len(written) == 1 else "exists"
    message = f"{number} of data {verb} below {Path.cwd()}: the data are not checked"
    hint = "validate and train in the folder that the paths are relative to"
    warning = dataclasses.replace(first, message=message, hint=hint, severity="warning")
    return [*rest, warning]


def _systems(section: Any) -> Iterator[str]:
    """Yield every path under a key `systems`, at any depth."""
    if not isinstance(section, dict):
        return
    for key, value in section.items():
        if key == "systems":
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield item
        else:
            yield from _systems(value)
