"""References to models, and the files that they mean: on this machine, their content right."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from schemas.base import environment
from schemas.base.errors import RegistryError, WriteError
from schemas.base.names import did_you_mean
from schemas.base.writing import atomic_write, file_sha256
from schemas.registry import ModelFile
from zoo.cache import Store
from zoo.known_models import KnownModel, Located, known_models
from zoo.local_copies import shipped_file
from zoo.registry import replaced
from zoo.transfer.remote import Download, Progress, is_loopback

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


@dataclass(frozen=True, slots=True)
class Placed:
    """A file that is where the user wanted it.

    Args:
        path: Where.
        how: `linked` to the cache (a hard link: it stays when the cache is emptied), `copied`, or
            `there already`.
    """

    path: Path
    how: Literal["linked", "copied", "there already"]


def model_file(
    reference: str,
    *,
    progress: Progress | None = None,
    offline: bool | None = None,
    any_family: bool = False,
) -> Path:
    """Return the file that a reference on the command line means; fetch it if it is not here.

    A path stays what it is, whether it exists or not; but a file that has the name of a model and
    the content of one that was replaced is refused. Anything else is fetched once and then found on
    this machine; its content is compared with the registry's hash.

    Args:
        reference: As `zoo.resolve.parse_reference` takes it.
        progress: Who watches the transfer.
        offline: Use only what is on this machine; None: as `ZOO_OFFLINE` says.
        any_family: The file is wanted as it is; else one that this engine cannot compute is
            refused before it is fetched.

    Raises:
        RegistryError: When the name is unknown, or the file is not the one it should be, or is
            known to be of another family than DPA-2.
        TransferError: When the file cannot be fetched.
    """
    parsed = parse_reference(reference)
    if isinstance(parsed, LocalPath):
        refuse_superseded(parsed.path)
        return parsed.path
    place = located(parsed)
    if not any_family:
        _refuse_other_family(place.known)
    return fetch(place, progress=progress, offline=offline).path


def refuse_superseded(path: Path) -> None:
    """Refuse a file that was downloaded before it was replaced.

    Only files that are called like a model with such a history are hashed.

    Raises:
        RegistryError: With the reason why it was replaced.
    """
    if not path.is_file():
        return
    try:
        models = [known.model for known in known_models().models if known.model.file.superseded]
    except RegistryError:  # a path needs no registry
        return
    for model in models:
        names = [*model.names, PurePosixPath(model.file.name).stem]
        if path.stem.lower() in (name.lower() for name in names):
            reason = replaced(model.file, file_sha256(path))
            if reason is not None:
                raise RegistryError(
                    f"{path} must not be used any more: {reason}",
                    hint=f"the file that took its place: --model {model.reference}",
                )


def _refuse_other_family(known: KnownModel | None) -> None:
    """Refuse a model of which a registry says that this engine cannot compute it."""
    if known is None or known.model.trainable or known.model.is_of("DPA-2"):
        return
    model = known.model
    names = dict.fromkeys(
        one.model.name
        for one in known_models().models
        if one.model.is_of("DPA-2") and one.shadowed_by is None
    )
    raise RegistryError(
        f"{model.reference} is a {model.family} model, and this engine computes DPA-2 only",
        hint=f"of DPA-2 there are {', '.join(names)}; deepmd-kit may take {model.name}: "
        f"zoo pull {model.reference} fetches its file",
    )


def fetch(
    place: Located, *, progress: Progress | None = None, offline: bool | None = None
) -> Download:
    """Return a file from this machine, or else from its sources.

    Raises:
        RegistryError: When the file that comes with the program or the registry is another one.
        TransferError: When no source has it, or what they have is not the right file.
    """
    here = shipped_file(place)
    if here is not None:
        return here
    from zoo.hubs.fetch import fetch_file

    offline = environment.is_offline() if offline is None else offline
    return fetch_file(place, Store(), progress=progress, offline=offline)


def place(
    file: Path, folder: Path, name: str, *, sha256: str, link: bool = True, replace: bool = False
) -> Placed:
    """Put a file of a cache into a folder.

    Args:
        file: The file, perhaps a symbolic link as the hubs' caches have them.
        folder: Made if it is not there.
        name: Of the new file.
        sha256: Of the file.
        link: A hard link will do; no for files of the program, which an editor must not reach.
        replace: Put it in the place of another file.

    Raises:
        WriteError: When another file has the name, or the folder cannot be written.
    """
    target, origin = folder / name, file.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if target.samefile(origin) or file_sha256(target) == sha256:
                return Placed(target, "there already")
            if not replace:
                raise WriteError(
                    f"{target} is another file", hint="move it away, or allow it with --force"
                )
    except OSError as error:
        raise WriteError(f"{target} cannot be written: {error.strerror or error}") from error
    if link and not target.exists():
        try:
            os.link(origin, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return Placed(target, "linked")
    with atomic_write(target) as stream, origin.open("rb") as content:
        shutil.copyfileobj(content, stream, 4 * 2**20)
    return Placed(target, "copied")


def located(reference: Reference | str) -> Located:
    """Return where the file of a reference can be had; nothing is asked over the network.

    Raises:
        RegistryError: When the name is unknown, or the reference is a path.
    """
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    match parsed:
        case ModelName(name, revision):
            return known_models().find(name, revision).place
        case HubPath(hub, repo, path, revision):
            newest = "main" if hub == "huggingface" else "master"
            return _at(path, kind=hub, repo=repo, path=path, revision=revision or newest)
        case Address(url):
            return _at(unquote(urlsplit(url).path), kind="https", url=url.replace(" ", "%20"))
        case LocalPath(path):
            raise RegistryError(f"{path} is a file on this machine")


def _at(place: str, **source: str) -> Located:
    """Return a file that has one source."""
    try:
        return Located(
            ModelFile.model_validate({"name": _file_name(place), "sources": [source]}, strict=False)
        )
    except ValidationError as error:
        *_, key = error.errors()[0]["loc"]
        raise RegistryError(
            f"`{source.get(str(key), place)}` cannot be the {key} of a file on the network",
            hint="names have letters, digits, `-`, `_` and `.`",
        ) from error


def _file_name(path: str) -> str:
    """Return the last part of a path on a server, made fit to be a name here."""
    name = re.sub(r"[^A-Za-z0-9_.\-]", "_", PurePosixPath(path).name)
    return re.sub(r"\.{2,}", ".", name).strip(".") or "model.pt"
