"""Registries of models: the built-in one and those that a user added, read and checked.

The user's stand in `registries.json` below the user's settings, in the order in which they were
added; of one at an address a copy is kept beside it, so that names work without a network. `zoo
registry update` fetches it again.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from schemas.base import environment
from schemas.base.errors import RegistryError, TransferError
from schemas.base.names import did_you_mean
from schemas.base.writing import write_json, write_text
from schemas.registry import BundledSource, ModelFile, Registry
from schemas.text.yaml_text import load_yaml
from zoo.transfer.remote import Remote, is_loopback

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


def replaced(file: ModelFile, sha256: str) -> str | None:
    """Return why a file with this hash was replaced; None where the registry does not say so."""
    for old in file.superseded:
        if old.sha256 == sha256:
            return old.reason.rstrip(".")
    return None


BUILT_IN = "built-in"
"""Name of the registry that comes with the program."""
_MOST_BYTES = 16 * 2**20
"""A registry describes models, it does not hold them."""
_SECONDS = 30.0
_NAME = re.compile(r"\w[\w\-.]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UserRegistry:
    """A registry that a user added.

    Args:
        name: What the user calls it.
        location: An absolute path, or an address.
        insecure: Plain http to another machine is allowed, for it and for the files it names.
    """

    name: str
    location: str
    insecure: bool = False

    @property
    def is_remote(self) -> bool:
        """Whether it is at an address."""
        return "://" in self.location

    @property
    def file(self) -> Path:
        """Where it is read from: itself, or its copy here."""
        if self.is_remote:
            return environment.config_folder() / "registries" / f"{self.name}.yaml"
        return Path(self.location)

    @property
    def base(self) -> str | Path:
        """What its `file` sources are relative to: a folder, or an address without a slash."""
        if self.is_remote:
            parts = urlsplit(self.location)
            folder = parts.path.rpartition("/")[0]
            return parts._replace(path=folder, query="", fragment="").geturl()
        return Path(self.location).parent


def user_registries() -> list[UserRegistry]:
    """Return the registries that the user added, the first to be asked first.

    Raises:
        RegistryError: When their list cannot be read.
    """
    path = _list_path()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [UserRegistry(**entry) for entry in document["registries"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"the list of your registries, {path}, cannot be read: {error}",
            hint="mend it, or delete it and add them again with `zoo registry add`",
        ) from error


def read_user_registry(registry: UserRegistry) -> Registry:
    """Return what a registry says, from its file or from the copy of it; nothing is fetched.

    Raises:
        RegistryError: When it is missing or has faults.
    """
    content = read_registry(registry.file)
    if registry.is_remote:
        _refuse_bundled(content, registry)
    return content


def add(location: str, *, name: str | None = None, insecure: bool = False) -> UserRegistry:
    """Add a registry behind those that were added before.

    Args:
        location: A path, or an https address; http for this machine.
        name: What to call it; None: after its folder or its host.
        insecure: Allow http to another machine.

    Raises:
        RegistryError: When the name is taken, the location is not allowed, or the registry has
            faults.
        TransferError: When it cannot be fetched.
    """
    known = user_registries()
    registry = _new(location, name, insecure=insecure)
    if registry.name.lower() in {BUILT_IN, *(other.name.lower() for other in known)}:
        raise RegistryError(
            f"there is a registry `{registry.name}` already", hint="give another: --name NAME"
        )
    if registry.is_remote:
        _fetch(registry)
    else:
        read_user_registry(registry)
    _write([*known, registry])
    return registry


def remove(name: str) -> UserRegistry:
    """Forget a registry, and the copy of it; files of models stay.

    Raises:
        RegistryError: When there is none of that name.
    """
    known = user_registries()
    registry = _named(name, known)
    _write([other for other in known if other is not registry])
    if registry.is_remote:
        registry.file.unlink(missing_ok=True)
    return registry


def update(name: str | None = None) -> Iterator[tuple[UserRegistry, bool]]:
    """Fetch registries at addresses again, and look whether those in files have faults.

    Args:
        name: Only this one; None: all.

    Yields:
        Each registry, and whether it has changed.

    Raises:
        RegistryError: When there is none of that name, or what arrived has faults; the copy from
            before stays.
        TransferError: When it cannot be fetched.
    """
    known = user_registries()
    for registry in known if name is None else [_named(name, known)]:
        if registry.is_remote:
            before = registry.file.read_bytes() if registry.file.exists() else None
            _fetch(registry)
            yield registry, registry.file.read_bytes() != before
        else:
            read_user_registry(registry)
            yield registry, False


def _new(location: str, name: str | None, *, insecure: bool) -> UserRegistry:
    if "://" in location:
        parts = urlsplit(location)
        local = is_loopback(parts.hostname)
        if parts.scheme != "https" and not (parts.scheme == "http" and (local or insecure)):
            raise RegistryError(
                f"the registry {location} would not come through https",
                hint="on a network that you trust, add --insecure"
                if parts.scheme == "http"
                else "give an https address or a file",
            )
        default = parts.hostname or ""
    else:
        path = Path(location).expanduser().resolve()
        location = str(path / "registry.yaml" if path.is_dir() else path)
        default = Path(location).parent.name
    chosen = name or re.sub(r"[^\w\-.]+", "-", default, flags=re.ASCII).strip("-.") or "registry"
    if not _NAME.fullmatch(chosen):
        raise RegistryError(
            f"`{chosen}` is no name for a registry",
            hint="use letters, digits, `-`, `_` and `.`: --name NAME",
        )
    return UserRegistry(chosen, location, insecure)


def _named(name: str, known: list[UserRegistry]) -> UserRegistry:
    for registry in known:
        if name.lower() == registry.name.lower() or name == registry.location:
            return registry
    if name == BUILT_IN:
        raise RegistryError("the built-in registry comes with the program and stays")
    raise RegistryError(
        f"you have no registry `{name}`",
        hint=did_you_mean(name, [registry.name for registry in known])
        or "add one: zoo registry add FILE|URL",
    )


def _fetch(registry: UserRegistry) -> None:
    """Fetch a registry; its copy is replaced only by one without faults."""
    from zoo.transfer.client import read_small

    url = registry.location
    what = f"the registry {url}"
    environment.demand_network(f"{what} cannot be fetched")
    remote = Remote(url, label=url, insecure=registry.insecure)
    try:
        text = read_small(remote, what, most_bytes=_MOST_BYTES, timeout=_SECONDS).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TransferError(f"{url} is not a registry: it is no text") from error
    _refuse_bundled(parse_registry(text, registry.location), registry)
    registry.file.parent.mkdir(parents=True, exist_ok=True)
    write_text(registry.file, text)


def _refuse_bundled(content: Registry, registry: UserRegistry) -> None:
    for model in content.models:
        if any(isinstance(source, BundledSource) for source in model.file.sources):
            raise RegistryError(
                f"the registry {registry.location} says that {model.name} comes with the program",
                hint="only the built-in registry may have sources of the kind `bundled`; "
                "its makers should write `file`",
            )


def _write(registries: list[UserRegistry]) -> None:
    path = _list_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        path, {"version": 1, "registries": [asdict(registry) for registry in registries]}, indent=2
    )


def _list_path() -> Path:
    return environment.config_folder() / "registries.json"
