"""What the hubs offer that no registry names: their own catalogues, searched over the network."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.errors import TransferError
from zoo.hubs import aissquare, huggingface
from zoo.hubs.aissquare import ListedFile

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
        for model in aissquare.search(text.rpartition("/")[2], limit=limit)
    ]


def _total(files: tuple[ListedFile, ...]) -> int | None:
    sizes = [file.size for file in files if file.size is not None]
    return sum(sizes) if sizes and len(sizes) == len(files) else None
