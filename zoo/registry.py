"""One registry: read, checked, searched for a name; and files that must be what it says."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from schemas.digest import file_sha256
from schemas.errors import RegistryError
from schemas.registry import RegisteredModel, Registry
from schemas.suggest import did_you_mean
from schemas.yaml_text import load_yaml

PACKAGE = Path(__file__).parent
"""Bundled sources are relative to it."""


def built_in_path() -> Path:
    """Return the registry of the program: in a checkout at its root, in a wheel in the package."""
    inside = PACKAGE / "registry.yaml"
    return inside if inside.exists() else PACKAGE.parent / "registry.yaml"


def read_registry(path: Path | None = None) -> Registry:
    """Return the registry of a file; None: the one that comes with the program.

    Raises:
        RegistryError: When it cannot be read or has faults.
    """
    file = path or built_in_path()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"the registry {file} cannot be read: {error}") from error
    return parse_registry(text, str(file))


def parse_registry(text: str, name: str) -> Registry:
    """Return the registry that a text (YAML, so JSON too) describes.

    Args:
        text: The text.
        name: What messages call it: its path or its address.

    Raises:
        RegistryError: When it has faults.
    """
    try:
        return Registry.model_validate(load_yaml(text))
    except (yaml.YAMLError, RecursionError) as error:
        raise RegistryError(f"the registry {name} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise RegistryError(
            f"the registry {name} has a fault at {place}: {first['msg']}",
            hint="the format is described by schemas/json/registry.schema.json",
        ) from error


def find_model(
    name: str, registry: Registry | None = None, revision: str | None = None
) -> RegisteredModel:
    """Return the model of a name or alias, in upper or lower case.

    Args:
        name: The name.
        registry: Where to look; None: in the one that comes with the program.
        revision: Of the model; None: the one that stands first.

    Raises:
        RegistryError: When there is none; says which name is near.
    """
    models = (registry or read_registry()).models
    found = [model for model in models if has_name(model, name)]
    for model in found:
        if revision is None or model.revision == revision:
            return model
    if found:
        raise RegistryError(
            f"{found[0].name} has no revision `{revision}`",
            hint=did_you_mean(revision, [model.revision for model in found if model.revision]),
        )
    raise unknown_name(name, models)


def has_name(model: RegisteredModel, name: str) -> bool:
    """Return whether a model has this name or alias, in upper or lower case."""
    return any(name.lower() == known.lower() for known in model.names)


def unknown_name(name: str, models: list[RegisteredModel]) -> RegistryError:
    """Return the error of a name that no model has, with the nearest one."""
    # names before aliases: of two that are equally near, the name is the better advice
    known = [model.name for model in models] + [
        alias for model in models for alias in model.aliases
    ]
    hint = did_you_mean(name, dict.fromkeys(known))
    if hint is None or not hint.startswith("did you mean"):
        hint = "`zoo list` shows the names; or give the path of a checkpoint"
    return RegistryError(f"`{name}` is neither a file nor a model of the registry", hint=hint)


def verified(path: Path, sha256: str) -> Path:
    """Return the path of a file whose content has this hash.

    Raises:
        RegistryError: When it is missing or another file.
    """
    try:
        found = file_sha256(path)
    except OSError as error:
        raise RegistryError(
            f"{path} cannot be read: {error.strerror}", hint="install dpa-zoo again"
        ) from error
    if found != sha256:
        raise RegistryError(
            f"{path} is not the file that the registry names: its SHA-256 is {found}, "
            f"{sha256} expected",
            hint="install dpa-zoo again",
        )
    return path
