"""Online catalogues of the hubs, searched for models that no registry names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx2

from schemas.base import environment
from schemas.base.errors import TransferError
from zoo.hubs import huggingface
from zoo.transfer.client import new_client, open_reply
from zoo.transfer.remote import Remote

_SITE = "https://www.aissquare.com"
_LABEL = "AIS Square"
_PAGE_SIZE = 300
_MOST_BYTES = 32 * 2**20
_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a catalogue.

    Args:
        name: On disk.
        url: Where it can be had; None where the catalogue does not say.
        size: Bytes; None where the catalogue does not say.
    """

    name: str
    url: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class AisSquareModel:
    """A model of the catalogue.

    Args:
        number: Of its page.
        name: Its name.
        updated: When it was changed last.
        files: Its files; empty where the list does not have them.
    """

    number: int | None
    name: str
    updated: datetime | None
    files: tuple[ListedFile, ...]

    @property
    def page(self) -> str:
        """Address of its page."""
        query = {"pageType": "models", "name": self.name}
        if self.number is not None:
            query["id"] = str(self.number)
        return f"{_SITE}/models/detail?{urlencode(query)}"


def search_aissquare(text: str, *, limit: int) -> list[AisSquareModel]:
    """Return the models whose name has all words of `text`, with their files.

    The catalogue cannot search; it is read whole, and the files of what was found are asked for
    one by one where the list does not have them.

    Args:
        text: Words, in upper or lower case.
        limit: Most models.

    Raises:
        TransferError: When the catalogue cannot be read.
    """
    words = text.lower().split()
    with new_client(timeout=_TIMEOUT) as client:
        query = urlencode({"page": 1, "pageSize": _PAGE_SIZE})
        listing = _read(client, f"/content/models?{query}")
        models = [model for entry in _items(listing) if (model := _model(entry)) is not None]
        found = [one for one in models if all(word in one.name.lower() for word in words)][:limit]
        return [one if one.files else _with_files(client, one) for one in found]


def _with_files(client: httpx2.Client, model: AisSquareModel) -> AisSquareModel:
    if model.number is None:
        return model
    query = urlencode({"id": model.number, "name": model.name})
    try:
        detail = _model(_inner(_read(client, f"/dpa/detail/models?{query}")))
    except TransferError:
        return model  # its name and page are of use without them
    files = detail.files if detail is not None else ()
    return AisSquareModel(model.number, model.name, model.updated, files)


def _read(client: httpx2.Client, path: str) -> Any:
    remote = Remote(f"{environment.aissquare_endpoint()}{path}", label=_LABEL)
    try:
        with open_reply(client, "GET", remote) as reply:
            if reply.status_code != httpx2.codes.OK:
                raise TransferError(f"the catalogue answered {reply.status_code}")
            content = bytearray()
            for part in reply.iter_bytes():
                content += part
                if len(content) > _MOST_BYTES:
                    raise TransferError("the catalogue is larger than any catalogue should be")
            return json.loads(content)
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise TransferError(f"the catalogue does not answer: {reason}") from error
    except ValueError as error:
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


def _model(entry: Any) -> AisSquareModel | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        return None
    kind = entry.get("type")
    if isinstance(kind, str) and kind not in {"models", "model", ""}:
        return None
    number = entry.get("ID", entry.get("id"))
    files = entry.get("files")
    listed = (_file(one) for one in files) if isinstance(files, list) else ()
    return AisSquareModel(
        number=number if isinstance(number, int) else None,
        name=entry["name"],
        updated=_time(entry.get("modifyDate")),
        files=tuple(file for file in listed if file is not None),
    )


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


_MODELS = (".pt", ".pth", ".pt2", ".safetensors")
"""Files that can be models of this family; others are counted neither as files nor in the size."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model of a hub's catalogue.

    Args:
        hub: `Hugging Face` or `AIS Square`.
        id: Its name there.
        url: Address of its page.
        files: Its model files, each with a reference that `zoo pull` takes as `url`.
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


def _huggingface(text: str, limit: int) -> list[Found]:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    huggingface.check_endpoint()
    owner, _, words = text.rpartition("/")
    try:
        models = HfApi(library_name="dpa-zoo").list_models(
            author=owner or None, search=words or None, limit=limit, full=True, cardData=True
        )
        return [_of_huggingface(model) for model in models]
    except (HTTPError, OSError, ValueError) as error:
        raise huggingface.explained(error, text or "the catalogue", None) from error


def _of_huggingface(model: Any) -> Found:
    files = tuple(
        ListedFile(file.rfilename, f"hf://{model.id}/{file.rfilename}", getattr(file, "size", None))
        for file in model.siblings or []
        if file.rfilename.endswith(_MODELS)
    )
    tags = [tag.partition(":")[2] for tag in model.tags or [] if tag.startswith("license:")]
    return Found(
        hub="Hugging Face",
        id=model.id,
        url=f"{huggingface.endpoint()}/{model.id}",
        files=files,
        size=_total(files),
        updated=model.last_modified,
        licence=tags[0] if tags else None,
    )


def _aissquare(text: str, limit: int) -> list[Found]:
    return [
        Found(
            hub="AIS Square",
            id=model.name,
            url=model.page,
            files=(files := tuple(file for file in model.files if file.name.endswith(_MODELS))),
            size=_total(files),
            updated=model.updated,
            licence=None,
        )
        for model in search_aissquare(text.rpartition("/")[2], limit=limit)
    ]


def _total(files: tuple[ListedFile, ...]) -> int | None:
    sizes = [file.size for file in files if file.size is not None]
    return sum(sizes) if sizes and len(sizes) == len(files) else None
