"""Addresses of a registry's sources, with the header that carries a token."""

from pathlib import Path
from urllib.parse import quote, urlsplit

from schemas.base import environment
from schemas.base.errors import RegistryError, TransferError
from schemas.registry import (
    AisSquareSource,
    BundledSource,
    FileSource,
    HttpsSource,
    HuggingFaceSource,
    ModelFile,
    ModelScopeSource,
    Source,
)
from zoo.transfer.remote import Remote


def remotes_of(
    file: ModelFile, *, base: str | Path | None = None, insecure: bool = False
) -> list[tuple[Source, Remote]]:
    """Return the sources of a file on the network with their addresses; none for files on disk.

    The user's Hugging Face token goes with the address of Hugging Face, or of the `HF_ENDPOINT`
    that the user chose, and with no other: never with that of a mirror which a registry names.

    Args:
        file: An entry of a registry, or what a reference says.
        base: Folder or address of the registry, to which `file` sources are relative.
        insecure: Plain http to another machine is allowed.

    Raises:
        RegistryError: When a source is relative to a registry that has no place.
    """
    found: list[tuple[Source, Remote]] = []
    for source in file.sources:
        url, headers = _address(source, base)
        if url is not None:
            # host and port, without a name and a password
            host = urlsplit(url).netloc.rpartition("@")[2]
            label = "AIS Square" if isinstance(source, AisSquareSource) else host
            found.append((source, Remote(url, label, headers, insecure)))
    return found


def _address(source: Source, base: str | Path | None) -> tuple[str | None, dict[str, str]]:
    match source:
        case BundledSource():
            return None, {}
        case FileSource():
            if base is None:
                raise RegistryError(
                    f"the file {source.path} is said to lie beside its registry, which has no place"
                )
            return None if isinstance(base, Path) else beside(base, source.path), {}
        case HuggingFaceSource():
            return _huggingface(source)
        case ModelScopeSource():
            place = f"{source.repo}/resolve/{quote(source.revision, safe='')}/{quote(source.path)}"
            return f"{environment.modelscope_endpoint()}/models/{place}", {}
        case AisSquareSource() | HttpsSource():
            return source.url, {}


def beside(base: str, path: str) -> str:
    """Return the address of a file beside a registry at an address."""
    return f"{base.rstrip('/')}/{quote(path)}"


def _huggingface(source: HuggingFaceSource) -> tuple[str, dict[str, str]]:
    from huggingface_hub import constants, hf_hub_url

    endpoint = (source.endpoint or constants.ENDPOINT).rstrip("/")
    url = hf_hub_url(source.repo, source.path, revision=source.revision, endpoint=endpoint)
    return url, huggingface_headers() if endpoint == constants.ENDPOINT else {}


def huggingface_headers() -> dict[str, str]:
    """Return the header that carries the user's token, as huggingface_hub finds it; or none.

    Raises:
        TransferError: When a token is to be exchanged for another one, and that fails.
    """
    from huggingface_hub import constants, errors, get_token

    if environment.is_offline():
        return {}  # to have a token may need the network
    try:
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    except errors.OIDCError as error:
        raise TransferError(
            f"no token for Hugging Face was given: {error}",
            hint="unset HF_OIDC_RESOURCE, or set HF_TOKEN",
        ) from error
    return {"Authorization": f"Bearer {token}"} if token else {}
