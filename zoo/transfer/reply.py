"""Meaning of a server's reply to a request for a file or a part of one."""

import email.utils
import re
import time
from datetime import UTC
from pathlib import PurePath

import httpx2

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


class Refusal(Exception):  # noqa: N818 - idem
    """A failure that asking the same source again would only repeat.

    Args:
        reason: In words.
        hint: What the user can do, or None.
    """

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def check_status(reply: httpx2.Response) -> None:
    """Return for 200, 206 and 416.

    Raises:
        Setback: For errors that pass, with the pause of Retry-After.
        Refusal: For those that stay.
    """
    status = reply.status_code
    if status in (200, 206, 416):
        if reply.headers.get("Content-Encoding", "").lower() not in ("", "identity"):
            raise Refusal("it sends the file compressed although that was not asked for")
        return
    if status in _TRY_AGAIN or status > 500:
        raise Setback(_words(status), pause=retry_after(reply))
    if status in (401, 403, 407):
        raise Refusal(
            _words(status),
            hint="the file may need an account: log in there and set its token, or ask for access",
        )
    raise Refusal(_words(status))


def validator(reply: httpx2.Response) -> str | None:
    """Return what tells this version of the file from others byte by byte, for If-Range.

    A strong ETag, else a time of last change that is at least a second older than the reply:
    a younger one may stand for two versions (RFC 9110, 8.8.2.2).
    """
    etag: str = reply.headers.get("ETag", "")
    if etag.startswith('"') and etag.endswith('"') and len(etag) > 2:
        return etag
    changed: str = reply.headers.get("Last-Modified", "")
    now = _time(reply.headers.get("Date", ""))
    then = _time(changed)
    if now is not None and then is not None and then + 1 <= now:
        return changed
    return None


def content_range(reply: httpx2.Response) -> tuple[int | None, int | None]:
    """Return where the part begins and how long the whole file is; None where it is not said.

    Raises:
        Setback: When the header cannot be read.
    """
    match = _RANGE.fullmatch(reply.headers.get("Content-Range", "").strip())
    if match is None:
        raise Setback("it does not say which part of the file it sends")
    start, _, total = match.groups()
    return (None if start is None else int(start), None if total == "*" else int(total))


def content_length(reply: httpx2.Response) -> int | None:
    """Return how many bytes the body promises to have."""
    value: str = reply.headers.get("Content-Length", "")
    return int(value) if value.isdigit() else None


def retry_after(reply: httpx2.Response) -> float | None:
    """Return how many seconds the server asks to wait: Retry-After is a number or a date."""
    value: str = reply.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    then = _time(value)
    return None if then is None else max(0.0, then - time.time())


def check_beginning(reply: httpx2.Response, beginning: bytes, name: str) -> None:
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
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    page = kind in ("text/html", "application/xhtml+xml") and beginning.lstrip()[:1] == b"<"
    if page or _HTML.match(beginning[:1024]):
        raise Refusal(
            "it sends a web page instead of the file",
            hint="open the address in a browser: it may ask for a login, or belong to a proxy; the "
            "address of a page is not that of the file",
        )


def _words(status: int) -> str:
    try:
        phrase = httpx2.codes.get_reason_phrase(status)
    except ValueError:
        phrase = ""
    return f"it answers {status} {phrase}".rstrip()


def _time(text: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
