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
    ModelScopeSource,
    Source,
)
from zoo.transfer.remote import Remote


def remotes_of(
    source: Source, *, base: str | Path | None = None, insecure: bool = False
) -> list[Remote]:
    """Return the addresses at which the file of a source can be had; none for a file on this disk.

    A reference such as `hf://owner/name/file` is a source as well, so that it takes the same way.
    The user's Hugging Face token goes with the address of Hugging Face, or of the `HF_ENDPOINT`
    that the user chose, and with no other: never with that of a mirror which a registry names.

    Args:
        source: An entry of a registry.
        base: Folder or address of the registry, to which `file` sources are relative.
        insecure: Plain http to another machine is allowed.

    Raises:
        RegistryError: When the source is relative to a registry that has no place.
    """
    match source:
        case BundledSource():
            return []
        case FileSource():
            if base is None:
                raise RegistryError(
                    f"the file {source.path} is said to lie beside its registry, which has no place"
                )
            if isinstance(base, Path):
                return []
            url = f"{base.rstrip('/')}/{quote(source.path)}"
            return [Remote(url, label=_host(url), insecure=insecure)]
        case HuggingFaceSource():
            return [_huggingface(source, insecure=insecure)]
        case ModelScopeSource():
            url = modelscope_url(source)
            return [Remote(url, label=_host(url), insecure=insecure)]
        case AisSquareSource():
            return [Remote(source.url, label="AIS Square", insecure=insecure)]
        case HttpsSource():
            return [Remote(source.url, label=_host(source.url), insecure=insecure)]


def modelscope_url(source: ModelScopeSource) -> str:
    """Return the address of a file of ModelScope that any client can read."""
    place = "/".join(quote(part, safe="") for part in ("resolve", source.revision))
    return f"{environment.modelscope_endpoint()}/models/{source.repo}/{place}/{quote(source.path)}"


def _huggingface(source: HuggingFaceSource, *, insecure: bool) -> Remote:
    from huggingface_hub import constants, hf_hub_url

    endpoint = (source.endpoint or constants.ENDPOINT).rstrip("/")
    url = hf_hub_url(source.repo, source.path, revision=source.revision, endpoint=endpoint)
    headers = huggingface_headers() if endpoint == constants.ENDPOINT else {}
    return Remote(url, label=_host(url), headers=headers, insecure=insecure)


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


def _host(url: str) -> str:
    """Return host and port, without a name and a password."""
    return urlsplit(url).netloc.rpartition("@")[2]
