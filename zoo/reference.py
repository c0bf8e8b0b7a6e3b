"""References to models: a name, an address, a place on a hub, or a path."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from schemas.base.errors import RegistryError
from schemas.base.names import did_you_mean
from zoo.transfer.remote import is_loopback

_SUFFIXES = frozenset(
    {".pt", ".pth", ".pt2", ".dp", ".yaml", ".hlo", ".savedmodel", ".safetensors"}
)
_HUBS: dict[str, tuple[Literal["huggingface", "modelscope"], str]] = {
    "hf": ("huggingface", "Hugging Face"),
    "ms": ("modelscope", "ModelScope"),
}
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://")
_ON_HUB = re.compile(
    r"(?P<repo>\w[\w\-.]*/\w[\w\-.]*)(@(?P<revision>\w[^/@]*))?/(?P<path>[^?#]+)", re.ASCII
)
_NAME = re.compile(r"(?P<name>[^@]+)(@(?P<revision>[^@]+))?")


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A file on this machine, whether it is there or not."""

    path: Path


@dataclass(frozen=True, slots=True)
class ModelName:
    """A name or an alias of a registry; `revision` is what stands behind `@`."""

    name: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class HubPath:
    """A file in a repository of a hub; `revision` is None for the newest."""

    hub: Literal["huggingface", "modelscope"]
    repo: str
    path: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """A file at an https address, or at an http address of this machine."""

    url: str


Reference = LocalPath | ModelName | HubPath | Address


def parse_reference(text: str) -> Reference:
    """Return what a reference means; nothing but the names of local files is looked at.

    A path is what exists, has the suffix of a model file, or has a folder in it; also what exists
    once `.pt` is added, a suffix that deepmd-kit lets people leave out. An existing path is never
    taken for a name: `./NAME` and `NAME` are the same file if it is there.

    Args:
        text: A name, `name@revision`, `hf://owner/name[@revision]/file`,
            `ms://owner/name[@revision]/file`, `https://...`, or a path.

    Raises:
        RegistryError: When it is none of these; says what is wrong with it.
    """
    scheme = _SCHEME.match(text)
    if scheme is not None:
        return _address(text, scheme["scheme"].lower())
    path = Path(text)
    if not text.strip():
        raise RegistryError(
            "an empty text is neither a file nor a name of a model",
            hint="`zoo list` shows the names",
        )
    if "/" in text or os.sep in text or _is_path(path):
        return LocalPath(path)
    found = _NAME.fullmatch(text)
    if found is None:
        raise RegistryError(
            f"`{text}` is neither a file nor a name of a model",
            hint="write NAME or NAME@REVISION; `zoo list` shows the names",
        )
    return ModelName(found["name"], found["revision"])


def _is_path(path: Path) -> bool:
    if path.suffix in _SUFFIXES:
        return True
    try:
        return path.exists() or (path.parent / f"{path.name}.pt").exists()
    except (OSError, ValueError):  # longer than any name of a file system, or empty
        return False


def _address(text: str, scheme: str) -> Reference:
    if scheme in _HUBS:
        return _on_hub(text, scheme)
    if scheme not in {"https", "http"}:
        raise RegistryError(
            f"`{text}`: models do not come through {scheme}://",
            hint=did_you_mean(scheme, ["https", "hf", "ms"]),
        )
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError as error:
        raise RegistryError(f"`{text}` is not an address: {error}") from error
    if not host or not parts.path.strip("/"):
        raise RegistryError(f"`{text}` names no file", hint="give the whole address of a file")
    if parts.username or parts.password:
        raise RegistryError(
            f"an address of {host} with a password in it would end in logs and in histories",
            hint="use an address without one; tokens of hubs are read from their own settings",
        )
    if scheme == "http" and not is_loopback(host):
        raise RegistryError(
            f"`{text}` is not encrypted: anybody between here and {host} could change the file",
            hint=f"write https://; for a server of `zoo serve` on a local network: "
            f"zoo registry add http://{parts.netloc}/registry.yaml --insecure",
        )
    return Address(text)


def _on_hub(text: str, scheme: str) -> HubPath:
    hub, title = _HUBS[scheme]
    found = _ON_HUB.fullmatch(text.partition("://")[2])
    parts = found["path"].split("/") if found else []
    if found is None or {"", ".", ".."} & set(parts):
        raise RegistryError(
            f"`{text}` is not a file on {title}",
            hint=f"write {scheme}://owner/name/file.pt or {scheme}://owner/name@revision/file.pt",
        )
    revision = unquote(found["revision"]) if found["revision"] else None  # refs%2Fpr%2F1
    return HubPath(hub, found["repo"], found["path"], revision)
