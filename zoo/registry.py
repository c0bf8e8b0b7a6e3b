"""From a model's name to a file on this machine."""

import hashlib
from pathlib import Path

import yaml
from pydantic import ValidationError

from schemas.errors import RegistryError
from schemas.registry import BundledSource, RegisteredModel, Registry
from schemas.suggest import did_you_mean

_PACKAGE = Path(__file__).parent
_SUFFIXES = {".pt", ".pth", ".pt2", ".dp", ".yaml", ".hlo", ".savedmodel", ".safetensors"}


def read_registry(path: Path | None = None) -> Registry:
    """Return the registry of a file; None: the one that comes with the program.

    Raises:
        RegistryError: When it cannot be read or has faults.
    """
    file = path or _own_registry()
    try:
        return Registry.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RegistryError(f"the registry {file} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise RegistryError(
            f"the registry {file} has a fault at {place}: {first['msg']}"
        ) from error


def find_model(name: str, registry: Registry | None = None) -> RegisteredModel:
    """Return the model of a name or alias, in upper or lower case.

    Raises:
        RegistryError: When there is none; says which name is near.
    """
    known = {
        alias.lower(): model
        for model in (registry or read_registry()).models
        for alias in (model.name, *model.aliases)
    }
    found = known.get(name.lower())
    if found is None:
        hint = did_you_mean(name, [model.name for model in known.values()])
        raise RegistryError(
            f"`{name}` is neither a file nor a model of the registry",
            hint=hint or "give the path of a checkpoint",
        )
    return found


def model_file(reference: str) -> Path:
    """Return the file that a reference on the command line means.

    A path stays what it is, whether it exists or not; anything else is a name of the registry,
    whose file is checked against its hash.

    Raises:
        RegistryError: When the name is unknown, or the file is not the one it should be.
    """
    path = Path(reference)
    if path.exists() or path.suffix in _SUFFIXES or len(path.parts) > 1:
        return path
    if path.with_name(f"{path.name}.pt").exists():  # deepmd-kit lets the suffix be left out
        return path
    model = find_model(reference)
    (source, *_) = model.file.sources
    if not isinstance(source, BundledSource) or model.file.sha256 is None:
        raise RegistryError(f"{model.name} does not come with the program")
    return verified(_PACKAGE / source.path, model.file.sha256)


def verified(path: Path, sha256: str) -> Path:
    """Return the path of a file whose content has this hash.

    Raises:
        RegistryError: When it is missing or another file.
    """
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
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


def _own_registry() -> Path:
    """Return the file beside the package: in a checkout at its root, in a wheel within it."""
    inside = _PACKAGE / "registry.yaml"
    return inside if inside.exists() else _PACKAGE.parent / "registry.yaml"
