"""What a download would fetch, and from where: asked of the sources, nothing fetched."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from schemas.errors import TransferError
from zoo.resolve import Located
from zoo.transfer.remote import Remote

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source says about a file.

    Args:
        label: What messages call the source.
        url: Its address, without what may be secret.
        size: Bytes; None where it does not say, or does not have the file.
        problem: Why it cannot be used; None when it can.
        in_pieces: Whether parts of the file can be asked for, as one branch needs.
    """

    label: str
    url: str
    size: int | None = None
    problem: str | None = None
    in_pieces: bool = False


def offers(place: Located) -> list[Offer]:
    """Ask every source of a file for its size, all at the same time.

    Args:
        place: The file.
    """
    from zoo.hubs.remotes import remotes_of

    remotes = [
        remote
        for source in place.file.sources
        for remote in remotes_of(source, base=place.base, insecure=place.insecure)
    ]
    if not remotes:
        return []
    with ThreadPoolExecutor(len(remotes)) as threads:
        return list(threads.map(_ask, remotes))


def _ask(remote: Remote) -> Offer:
    import httpx2

    from zoo.transfer.client import new_client, open_reply, shown

    url = shown(remote.url)
    try:
        with new_client(timeout=_SECONDS) as client, open_reply(client, "HEAD", remote) as reply:
            if reply.status_code != httpx2.codes.OK:
                return Offer(remote.label, url, problem=f"answered {reply.status_code}")
            if reply.headers.get("Content-Type", "").startswith("text/html"):
                return Offer(remote.label, url, problem="a web page, not the file")
            length = reply.headers.get("Content-Length", "")
            return Offer(
                remote.label,
                url,
                size=int(length) if length.isdigit() else None,
                in_pieces=reply.headers.get("Accept-Ranges", "") == "bytes",
            )
    except httpx2.HTTPError as error:
        return Offer(remote.label, url, problem=str(error) or type(error).__name__)
    except TransferError as error:
        return Offer(remote.label, url, problem=error.message)
