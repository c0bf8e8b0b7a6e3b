"""The text of a registry at an address."""

from schemas import environment
from schemas.errors import TransferError
from zoo.transfer.remote import Remote

_SECONDS = 30.0


def download_text(url: str, *, insecure: bool, most_bytes: int) -> str:
    """Return a text that is small enough to be a registry.

    Args:
        url: Its address.
        insecure: Plain http to another machine is allowed.
        most_bytes: Above this it is no registry.

    Raises:
        TransferError: When it cannot be fetched, is too long, or no text.
    """
    import httpx2

    from zoo.transfer.client import new_client, open_reply

    environment.demand_network(f"the registry {url} cannot be fetched")
    remote = Remote(url, label=httpx2.URL(url).host, insecure=insecure)
    content = bytearray()
    try:
        with new_client(timeout=_SECONDS) as client, open_reply(client, "GET", remote) as reply:
            if reply.status_code != httpx2.codes.OK:
                raise TransferError(f"{url} answered {reply.status_code}, not with a registry")
            for piece in reply.iter_bytes():
                content += piece
                if len(content) > most_bytes:
                    raise TransferError(f"{url} is longer than any registry ({most_bytes} bytes)")
        return content.decode("utf-8")
    except httpx2.HTTPError as error:
        raise TransferError(f"the registry {url} cannot be fetched: {error}") from error
    except UnicodeDecodeError as error:
        raise TransferError(f"{url} is not a registry: it is no text") from error
