"""Overrides from the command line: `training.numb_steps=10000`."""

import json
from collections.abc import Sequence
from typing import Any

from schemas.diagnostics import Finding, Path
from schemas.outline import section_at
from schemas.section import aliases


def apply_overrides(
    data: dict[str, Any], overrides: Sequence[str]
) -> tuple[list[Path], list[Finding]]:
    """Write overrides into the data of an input, in place.

    Returns:
        The paths that were set, and a finding for each override that could not be applied.
    """
    paths: list[Path] = []
    findings: list[Finding] = []
    for override in overrides:
        try:
            paths.append(_apply(data, override))
        except _CannotApplyError as error:
            hint = "write --set section.key=value, such as --set training.numb_steps=10000"
            message = f"--set {override}: {error}"
            findings.append(Finding("ZOO008", (), message, hint))
    return paths, findings


class _CannotApplyError(Exception):
    """An override has no place in the data."""


def _apply(data: dict[str, Any], override: str) -> Path:
    dotted, equals, written = override.partition("=")
    parts = dotted.strip().split(".")
    if not equals:
        raise _CannotApplyError("there is no `=`")
    if not all(parts):
        raise _CannotApplyError("there is an empty key")
    target: Any = data
    path: tuple[str | int, ...] = ()
    for part in parts[:-1]:
        key = _key(data, target, part, path)
        if isinstance(target, dict) and key not in target:
            target[key] = {}
        target = target[key]
        path = (*path, key)
    key = _key(data, target, parts[-1], path)
    target[key] = _value(written)
    return (*path, key)


def _key(data: dict[str, Any], target: Any, part: str, path: Path) -> str | int:
    """Return the key or index by which a part of the dotted path reaches into the target."""
    where = ".".join(str(step) for step in path) or "the input"
    if isinstance(target, list):
        if part.isdigit() and int(part) < len(target):
            return int(part)
        raise _CannotApplyError(f"`{where}` is a list of {len(target)}; `{part}` is not in it")
    if not isinstance(target, dict):
        raise _CannotApplyError(f"`{where}` is a value and has no `{part}`")
    section = section_at(data, path)
    names = aliases(section) if section is not None else {}
    canonical = names.get(part, part)
    for other in list(target):
        if other != part and names.get(other, other) == canonical:
            target[part] = target.pop(other)  # the key is there under another of its names
    return part


def _value(written: str) -> Any:
    """Return the value as JSON, or as text if it is not JSON."""
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return written
