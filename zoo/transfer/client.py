"""Requests of every transfer: allowed addresses, trust, redirects, and what replies mean."""

import email.utils
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from pathlib import Path, PurePath

import httpx2

from schemas.base.environment import certificate_authorities
from schemas.base.errors import TransferError
from zoo.transfer.remote import PATIENT, ForbiddenAddressError, Remote, is_loopback, shown

_LONGEST_WAY = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Plain http is allowed to this machine because it never leaves it: no proxy may carry it away.
_NEVER_PROXIED = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_USER_AGENT = "dpa-zoo (+https://pypi.org/project/dpa-zoo)"


def new_client(stall: float = PATIENT.stall, connect: float | None = None) -> httpx2.Client:
    """Return a client that does not follow redirects; `open_reply` does, hop by hop.

    Proxies come from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`; certificate
    authorities from `SSL_CERT_FILE`, `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, else
    from the system.

    Args:
        stall: Seconds without progress before an error.
        connect: Seconds for a connection to open; None: as `stall`.

    Raises:
        TransferError: When the certificates or the proxy named in the environment are unusable.
    """
    try:
        return httpx2.Client(
            verify=_trust(),
            timeout=httpx2.Timeout(stall, connect=stall if connect is None else connect),
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
        with new_client(timeout) as client, open_reply(client, "GET", remote) as reply:
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


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and the errors behind it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


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


_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_HTML = re.compile(
    rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|script|title)\b",
    re.IGNORECASE | re.DOTALL,
)
_LFS = b"version https://git-lfs.github.com/spec/v1"
_TRY_AGAIN = frozenset({408, 409, 421, 423, 425, 429, 500, 502, 503, 504})


class Setback(Exception):  # noqa: N818 - not an error: the transfer goes on
    """A failure after which the same source is asked again.

    Args:
        reason: In words.
        pause: Seconds that the server asked to wait; None: it did not.
    """

    def __init__(self, reason: str, *, pause: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


class Refusal(Exception):  # noqa: N818 - not an error: another source is asked
    """A failure that asking the same source again would only repeat.

    Args:
        reason: In words.
        hint: What the user can do, or None.
    """

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to the request for a file.

    Attributes:
        response: Its body still unread.
        status: 200 for the whole file, 206 for a part, 412 or 416 for neither.
        start: Where in the file its body begins.
        total: Bytes of the file; None where it does not say.
        version: What If-Range may name: a strong ETag, else a time of last change that is at least
            a second older than the reply, since a younger one may stand for two versions (RFC 9110,
            8.8.2.2); None where neither is there.
    """

    response: httpx2.Response
    status: int
    start: int
    total: int | None
    version: str | None

    @property
    def may_continue(self) -> bool:
        """Whether the server sends parts."""
        return self.status == 206 or self.response.headers.get("Accept-Ranges") == "bytes"

    @property
    def is_bounded(self) -> bool:
        """Whether the end of the body can be told from a connection that broke off."""
        coding = self.response.headers.get("Transfer-Encoding", "")
        return self.total is not None or "chunked" in coding.lower()


@contextmanager
def requested(
    client: httpx2.Client, remote: Remote, headers: Mapping[str, str], *, stall: float
) -> Iterator[Reply]:
    """Ask for a file and yield the reply; what goes wrong while it is read is translated as well.

    Args:
        client: From `new_client`.
        remote: Where.
        headers: Range and If-Range.
        stall: Seconds without a byte after which the client gives up, for the message.

    Raises:
        Setback: For failures that pass.
        Refusal: For those that stay.
    """
    try:
        with open_reply(client, "GET", remote, headers) as response:
            yield _understood(response)
    except ForbiddenAddressError as error:
        raise Refusal(error.message, hint=error.hint) from error
    except httpx2.TimeoutException as error:
        raise Setback(f"nothing came for {stall:g} s") from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        distrust = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error))
        if distrust or "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise Refusal(
                "its certificate is not trusted",
                hint="where a proxy or a private server has a certificate of its own, let "
                "SSL_CERT_FILE name the file of the authority that signed it",
            ) from error
        reason = f"the connection failed: {error}" if str(error) else "the connection failed"
        raise Setback(reason) from error


def check_beginning(reply: Reply, beginning: bytes, name: str) -> None:
    """Refuse a page for people or a pointer that came instead of the file.

    Args:
        reply: Whose body it is.
        beginning: First bytes of the whole file.
        name: Of the file that was asked for.

    Raises:
        Refusal: When it is one of them.
    """
    if beginning.startswith(_LFS):
        raise Refusal(
            "it sends a Git LFS pointer, a small text that stands for the file",
            hint="use the address from which the file itself is downloaded (on Hugging Face "
            "`resolve` instead of `raw`), or `git lfs pull` where it was copied from",
        )
    if PurePath(name).suffix.lower() in (".html", ".htm", ".xhtml"):
        return
    kind = reply.response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    page = kind in ("text/html", "application/xhtml+xml") and beginning.lstrip()[:1] == b"<"
    if page or _HTML.match(beginning[:1024]):
        raise Refusal(
            "it sends a web page instead of the file",
            hint="open the address in a browser: it may ask for a login, or belong to a proxy; the "
            "address of a page is not that of the file",
        )


def _understood(response: httpx2.Response) -> Reply:
    status, headers = response.status_code, response.headers
    if status not in (200, 206, 412, 416):
        _refuse(response)
    if headers.get("Content-Encoding", "").lower() not in ("", "identity"):
        raise Refusal("it sends the file compressed although that was not asked for")
    start, total = 0, None
    if status in (206, 416):
        match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if match is None or (status == 206 and match[1] is None):
            raise Setback("it does not say which part of the file it sends")
        start, total = int(match[1] or 0), None if match[3] == "*" else int(match[3])
    elif headers.get("Content-Length", "").isdigit():
        total = int(headers["Content-Length"])
    return Reply(response, status, start, total, _version(headers))


def _refuse(response: httpx2.Response) -> None:
    """Raise what an error of a server means."""
    status = response.status_code
    words = f"it answers {status} {response.reason_phrase}".rstrip()
    if status in _TRY_AGAIN or status > 500:
        raise Setback(words, pause=_retry_after(response))
    if status in (401, 403, 407):
        raise Refusal(
            words,
            hint="the file may need an account: log in there and set its token, or ask for access",
        )
    raise Refusal(words)


def _version(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("ETag", "")
    if etag.startswith('"') and etag.endswith('"') and len(etag) > 2:
        return etag
    changed = headers.get("Last-Modified", "")
    now, then = _time(headers.get("Date", "")), _time(changed)
    return changed if now is not None and then is not None and then + 1 <= now else None


def _retry_after(response: httpx2.Response) -> float | None:
    """Return how many seconds the server asks to wait: Retry-After is a number or a date."""
    value: str = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    then = _time(value)
    return None if then is None else max(0.0, then - time.time())


def _time(text: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
