"""Requests for a file or a part of one, and what the replies to them mean."""

import email.utils
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import PurePath

import httpx2

from zoo.transfer.client import is_distrust, open_reply
from zoo.transfer.remote import ForbiddenAddressError, Remote

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
        if is_distrust(error):
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
