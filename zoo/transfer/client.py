"""The HTTP client of every transfer: allowed addresses, trust, redirects, and small answers."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx2

from schemas.base.environment import certificate_authorities
from schemas.base.errors import TransferError
from zoo.transfer.remote import PATIENT, ForbiddenAddressError, Remote, is_loopback

_LONGEST_WAY = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Plain http is allowed to this machine because it never leaves it: no proxy may carry it away.
_NEVER_PROXIED = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_USER_AGENT = "dpa-zoo (+https://pypi.org/project/dpa-zoo)"


def new_client(*, timeout: httpx2.Timeout | float | None = None) -> httpx2.Client:
    """Return a client that does not follow redirects; `open_reply` does, hop by hop.

    Proxies come from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`; certificate
    authorities from `SSL_CERT_FILE`, `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, else
    from the system.

    Args:
        timeout: Seconds without progress before an error; None: as `PATIENT` says.

    Raises:
        TransferError: When the certificates or the proxy named in the environment are unusable.
    """
    if timeout is None:
        timeout = httpx2.Timeout(PATIENT.stall, connect=PATIENT.connect)
    try:
        return httpx2.Client(
            verify=_trust(),
            timeout=timeout,
            follow_redirects=False,
            mounts=dict.fromkeys(_NEVER_PROXIED),
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
        )
    except (ValueError, httpx2.InvalidURL, ImportError) as error:
        raise TransferError(
            f"the proxy settings of the environment cannot be used: {error}",
            hint="look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; a proxy is written as "
            "http://host:port",
        ) from error


def check_url(remote: Remote) -> None:
    """Refuse an address that would go over the network in the clear.

    Raises:
        ForbiddenAddressError: Unless it is https, or http to this machine, or `remote.insecure`.
    """
    try:
        url = httpx2.URL(remote.url)
    except httpx2.InvalidURL as error:
        raise ForbiddenAddressError(f"{shown(remote.url)} is not an address: {error}") from error
    if url.host and url.scheme == "https":
        return
    if url.host and url.scheme == "http" and (remote.insecure or is_loopback(url.host)):
        return
    if url.host and url.scheme == "http":
        raise ForbiddenAddressError(
            f"{shown(remote.url)} is plain http: anyone on the way could change the file",
            hint="write https; plain http is for this machine, or for `zoo serve` with the option "
            "that allows it",
        )
    raise ForbiddenAddressError(
        f"{shown(remote.url)} is not an address from which a file can be fetched",
        hint="an address begins with https://",
    )


@contextmanager
def open_reply(
    client: httpx2.Client,
    method: str,
    remote: Remote,
    headers: Mapping[str, str] | None = None,
) -> Iterator[httpx2.Response]:
    """Send a request, follow redirects, and yield the last reply with its body still unread.

    Every hop is held to the rule of `check_url`. A redirect never leads from https to http, nor
    from a host to which plain http is allowed to another one. `remote.headers` (tokens) go to the
    origin of `remote.url` only: scheme, host and port.

    Args:
        client: From `new_client`.
        method: GET or HEAD.
        remote: Where.
        headers: Those that every hop needs, such as Range.

    Raises:
        ForbiddenAddressError: For an address that is not allowed, or redirects without end.
        httpx2.HTTPError: When the network fails.
    """
    check_url(remote)
    home = httpx2.URL(remote.url)
    url = home
    for _ in range(_LONGEST_WAY):
        own = dict(remote.headers) if url.origin == home.origin else {}
        request = client.build_request(method, url, headers={**own, **(headers or {})})
        reply = client.send(request, stream=True)
        try:
            location = reply.headers.get("Location")
            if reply.status_code not in _REDIRECTS or location is None:
                yield reply
                return
            url = _next_hop(remote, url, location)
        finally:
            reply.close()
    raise ForbiddenAddressError(f"{shown(remote.url)} is redirected without end")


def read_small(remote: Remote, what: str, *, most_bytes: int, timeout: float) -> bytes:
    """Return a text that is read whole, such as a catalogue.

    Args:
        remote: Its address.
        what: What messages call it.
        most_bytes: Above this it is not what it should be.
        timeout: Seconds without progress.

    Raises:
        TransferError: When it cannot be fetched, or is too long.
    """
    content = bytearray()
    try:
        with new_client(timeout=timeout) as client, open_reply(client, "GET", remote) as reply:
            if reply.status_code != httpx2.codes.OK:
                raise TransferError(f"{what} answered {reply.status_code}")
            for piece in reply.iter_bytes():
                content += piece
                if len(content) > most_bytes:
                    raise TransferError(f"{what} is longer than {most_bytes} bytes")
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise TransferError(f"{what} cannot be fetched: {reason}") from error
    return bytes(content)


def shown(url: str) -> str:
    """Return an address fit for messages: without user, password and query, which hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_distrust(error: BaseException) -> bool:
    """Return whether a connection failed because the server's certificate is not trusted."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _next_hop(remote: Remote, url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        target = url.join(location)
    except httpx2.InvalidURL as error:
        raise ForbiddenAddressError(
            f"{shown(remote.url)} redirects to an address that cannot be read"
        ) from error
    allowed = target.scheme == "https" or (
        target.scheme == url.scheme == "http"
        and (
            (is_loopback(target.host) and is_loopback(url.host))
            or (remote.insecure and target.host == url.host)
        )
    )
    if not allowed:
        raise ForbiddenAddressError(
            f"{shown(remote.url)} redirects to {shown(str(target))}, which is not https",
            hint="the file is not fetched in the clear; use another source",
        )
    return target


def _trust() -> ssl.SSLContext:
    chosen = certificate_authorities()
    if chosen is None:
        return _authorities(None, 0)
    variable, path = chosen
    try:
        return _authorities(path, path.stat().st_mtime_ns)
    except (OSError, ssl.SSLError) as error:
        raise TransferError(
            f"{variable} names {path}, from which no certificates can be read: {error}",
            hint=f"let {variable} name a PEM file of certificates, or unset it",
        ) from error


@lru_cache(maxsize=4)
def _authorities(path: Path | None, _changed: int) -> ssl.SSLContext:
    """Return the trust in a file or folder of certificates; None: in the system's.

    Reading the system's takes 50 ms, as long as many a small transfer; `_changed` makes a file that
    was written again a new one.
    """
    if path is None:
        return httpx2.create_ssl_context(trust_env=False)
    if path.is_dir():
        return ssl.create_default_context(capath=str(path))
    return ssl.create_default_context(cafile=str(path))
