"""Online catalogues of the hubs, searched for models that no registry names."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from schemas.base import environment
from schemas.base.errors import TransferError
from zoo.hubs.clients import check_endpoint, endpoint, explained
from zoo.transfer.client import read_small
from zoo.transfer.remote import Remote

_MODELS = (".pt", ".pth", ".pt2", ".safetensors")
"""Files that can be models of this family; others are counted neither as files nor in the size."""
_SITE = "https://www.aissquare.com"
_PAGE_SIZE = 300
_MOST_BYTES = 32 * 2**20
_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a catalogue.

    Args:
        name: On disk.
        url: A reference that `zoo pull` takes; None where the catalogue does not say.
        size: Bytes; None where the catalogue does not say.
    """

    name: str
    url: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A model of a hub's catalogue.

    Args:
        hub: `Hugging Face` or `AIS Square`.
        id: Its name there.
        url: Address of its page.
        files: Its model files.
        size: Bytes of them together; None where a size is unknown.
        updated: When it was changed last.
        licence: Identifier; None where the catalogue does not say.
    """

    hub: str
    id: str
    url: str
    files: tuple[ListedFile, ...]
    size: int | None
    updated: datetime | None
    licence: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """What the catalogues answered.

    Args:
        found: Models, hub by hub in the hub's own order.
        failures: Why a hub could not be searched, by its name.
    """

    found: list[Found]
    failures: dict[str, TransferError]


def search_online(text: str, *, limit: int = 20) -> Search:
    """Search the catalogues of Hugging Face and AIS Square; one that fails costs the other nothing.

    Args:
        text: Words of a name; `owner/` at the beginning restricts Hugging Face to one owner.
        limit: Most models of each hub.
    """
    found: list[Found] = []
    failures: dict[str, TransferError] = {}
    for hub, search in (("Hugging Face", _huggingface), ("AIS Square", _aissquare)):
        try:
            found += search(text, limit)
        except TransferError as error:
            failures[hub] = error
    return Search(found, failures)


def _found(
    hub: str,
    name: str,
    url: str,
    files: Iterable[ListedFile | None],
    updated: datetime | None,
    licence: str | None = None,
) -> Found:
    models = tuple(file for file in files if file is not None and file.name.endswith(_MODELS))
    sizes = [file.size for file in models if file.size is not None]
    size = sum(sizes) if sizes and len(sizes) == len(models) else None
    return Found(hub, name, url, models, size, updated, licence)


def _huggingface(text: str, limit: int) -> list[Found]:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    check_endpoint()
    owner, _, words = text.rpartition("/")
    try:
        models = HfApi(library_name="dpa-zoo").list_models(
            author=owner or None, search=words or None, limit=limit, full=True, cardData=True
        )
        return [_of_huggingface(model) for model in models]
    except (HTTPError, OSError, ValueError) as error:
        raise explained(error, text or "the catalogue", None) from error


def _of_huggingface(model: Any) -> Found:
    files = (
        ListedFile(file.rfilename, f"hf://{model.id}/{file.rfilename}", getattr(file, "size", None))
        for file in model.siblings or []
    )
    tags = [tag.partition(":")[2] for tag in model.tags or [] if tag.startswith("license:")]
    return _found(
        "Hugging Face",
        model.id,
        f"{endpoint()}/{model.id}",
        files,
        model.last_modified,
        tags[0] if tags else None,
    )


def _aissquare(text: str, limit: int) -> list[Found]:
    """Return the models whose name has all words, with their files.

    The catalogue cannot search; it is read whole, and the files of what was found are asked for
    one by one where the list does not have them. Everything but a name may be missing.
    """
    words = text.rpartition("/")[2].lower().split()
    query = urlencode({"page": 1, "pageSize": _PAGE_SIZE})
    entries = [entry for entry in _items(_read(f"/content/models?{query}")) if _is_model(entry)]
    fitting = [entry for entry in entries if all(word in entry["name"].lower() for word in words)]
    return [_of_aissquare(entry) for entry in fitting[:limit]]


def _of_aissquare(entry: Mapping[str, Any]) -> Found:
    name, number = entry["name"], entry.get("ID", entry.get("id"))
    files, query = entry.get("files"), {"pageType": "models", "name": name}
    if isinstance(number, int):
        query["id"] = str(number)
        if not files:
            try:
                detail = _read(f"/dpa/detail/models?{urlencode({'id': number, 'name': name})}")
                files = _inner(detail).get("files")
            except (TransferError, AttributeError):
                pass  # its name and page are of use without them
    return _found(
        "AIS Square",
        name,
        f"{_SITE}/models/detail?{urlencode(query)}",
        map(_file, files) if isinstance(files, list) else (),
        _time(entry.get("modifyDate")),
    )


def _read(path: str) -> Any:
    remote = Remote(f"{environment.aissquare_endpoint()}{path}", label="AIS Square")
    content = read_small(remote, "the catalogue", most_bytes=_MOST_BYTES, timeout=_TIMEOUT)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TransferError("the catalogue answered something else than JSON") from error


def _inner(document: Any) -> Any:
    """Return what is below `data`, if that is there."""
    if isinstance(document, Mapping) and isinstance(document.get("data"), Mapping | list):
        return document["data"]
    return document


def _items(document: Any) -> list[Any]:
    inner = _inner(document)
    if isinstance(inner, Mapping):
        inner = inner.get("items")
    if not isinstance(inner, list):
        raise TransferError("the catalogue answered in a form that this version does not know")
    return inner


def _is_model(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        return False
    kind = entry.get("type")
    return not isinstance(kind, str) or kind in {"models", "model", ""}


def _file(entry: Any) -> ListedFile | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("fileName"), str):
        return None
    url, size = entry.get("downloadLink"), entry.get("size")
    return ListedFile(
        name=entry["fileName"],
        url=url if isinstance(url, str) and url.startswith("https://") else None,
        size=size if isinstance(size, int) and size > 0 else None,
    )


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
