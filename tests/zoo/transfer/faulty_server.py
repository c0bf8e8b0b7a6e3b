"""An http or https server on this machine that serves files and misbehaves exactly as it is told.

    with FaultyServer() as server:
        faults = [Fault(reset_after=1000), Fault(status=503)]
        page = server.serve("/model.pt", content, faults=faults)
        ...fetch page.url...
        assert server.sent("/model.pt") <= len(content) + 1000

The n-th GET of a file suffers the n-th fault; when they are used up the server behaves. HEAD
requests use up no fault. Every request is kept in `server.requests` with its headers and the number
of body bytes that were written to it.
"""

import email.utils
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one reply; several faults of one reply are given together.

    Positions called `..._after` count bytes of this reply's body, `flip_at` is a position in the
    file.
    """

    truncate_after: int | None = None  # closed in good order although more was promised
    reset_after: int | None = None
    stall_after: int | None = None  # the connection stays open until the server stops
    flip_at: int | None = None  # this byte has all its bits inverted
    status: int | None = None  # an error instead of the file
    retry_after: str | None = None  # header of that error
    redirect: str | None = None  # address of a 302
    no_range: bool = False  # the whole file with status 200
    ignore_if_range: bool = False  # a part even if If-Range names another version
    length_delta: int = 0  # added to Content-Length, and to the total of Content-Range
    content: bytes | None = None  # another file from now on, with an ETag of its own
    body: bytes | None = None  # another text in this reply only (status 200)
    content_type: str | None = None


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0
    body_sent: int = 0

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What a function that answers requests returns: this, or a `Page`."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, document: Any, status: int = 200, **headers: str) -> "Reply":
        body = json.dumps(document).encode()
        return cls(status, body, {"Content-Type": "application/json", **headers})


@dataclass
class Page:
    """A file that is served; `pace` is bytes a second at most."""

    content: bytes | Path
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    etag: str | None = "auto"
    last_modified: str | None = None
    content_type: str = "application/octet-stream"
    ranges: bool = True
    pace: float | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.faults = list(self.faults)
        if self.etag == "auto":
            self.etag = _etag(self.content)

    @property
    def size(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


Answer = Callable[[Seen], Reply | Page]


class FaultyServer:
    """A server on a port of its own, in threads of this process.

    Args:
        default: Answers what nothing else is known of.
        tls: Serve https with this context.
        host: Address to listen at.
    """

    def __init__(
        self,
        default: Answer = lambda _: Reply(404),
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.requests: list[Seen] = []
        self.pages: dict[str, Page] = {}
        self.answers: dict[str, Answer] = {}
        self.default = default
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._http = _Quiet((host, 0), type("Handler", (_Handler,), {"faulty": self}))
        if tls is not None:
            # The handshake happens in the request's thread: a client that refuses the
            # certificate must not keep others waiting.
            self._http.socket = tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._http.server_address[1])
        self.url = f"{'http' if tls is None else 'https'}://{host}:{self.port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def serve(self, path: str, content: bytes | Path, **page: Any) -> Page:
        """Serve a file with one fault for each GET to come; see `Page`."""
        self.pages[path] = Page(content, self.url + path, **page)
        return self.pages[path]

    def answer(self, path: str, function: Answer) -> str:
        """Let a function answer GET and HEAD of a path (its query included); return the address."""
        self.answers[path] = function
        return self.url + path

    def seen(self, path: str, method: str = "GET") -> list[Seen]:
        """Return the requests of a path that came so far."""
        return [s for s in list(self.requests) if s.path == path and s.method == method]

    def asked(self, method: str, part: str = "") -> list[Seen]:
        """Return the requests of a method whose path holds `part`."""
        return [one for one in self.requests if one.method == method and part in one.path]

    def sent(self, path: str) -> int:
        """Return how many bytes of a file went over the network in all."""
        return sum(seen.body_sent for seen in self.seen(path))

    def next_fault(self, page: Page) -> Fault:
        with self._lock:
            return page.faults.pop(0) if page.faults else Fault()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyServer

    def log_message(self, *_: object) -> None:
        """Nothing is printed; requests are kept."""

    def _reply(self) -> None:
        headers = {k.lower(): v for k, v in self.headers.items()}
        seen = self._seen = Seen(self.command, self.path, headers, self._read_body())
        self.faulty.requests.append(seen)
        page = self.faulty.pages.get(self.path)
        answer = self.faulty.answers.get(self.path)
        found = answer(seen) if answer else page or self.faulty.default(seen)
        if isinstance(found, Reply):
            self._send(found.status, found.headers, found.body)
        else:
            fault = self.faulty.next_fault(found) if self.command == "GET" else Fault()
            self._page(found, fault)

    do_GET = do_HEAD = do_POST = do_PUT = _reply  # noqa: N815 - http.server's names

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _page(self, page: Page, fault: Fault) -> None:
        if fault.content is not None:
            page.content, page.etag = fault.content, page.etag and _etag(fault.content)
        if fault.redirect is not None:
            self._send(302, {"Location": fault.redirect}, b"")
            return
        if fault.status is not None:
            extra = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            self._send(fault.status, extra, b"an error of the server")
            return
        if fault.body is not None:
            self._send(200, {"Content-Type": fault.content_type or "text/html"}, fault.body)
            return
        headers = dict(page.headers)
        headers["Content-Type"] = fault.content_type or page.content_type
        if page.etag:
            headers["ETag"] = page.etag
        if page.last_modified:
            headers["Last-Modified"] = page.last_modified
        wanted = self._range(page, fault)
        if wanted is None:
            self._body(page, fault, 200, headers, 0, page.size)
            return
        start, end = wanted
        total = page.size + fault.length_delta
        if start >= page.size:
            headers["Content-Range"] = f"bytes */{total}"
            self._send(416, headers, b"")
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        self._body(page, fault, 206, headers, start, end)

    def _range(self, page: Page, fault: Fault) -> tuple[int, int] | None:
        """Return where the wanted part begins and ends; None: the whole file."""
        header = self._seen.headers.get("range", "")
        if not page.ranges or fault.no_range or not header.startswith("bytes=") or "," in header:
            return None
        condition = self._seen.headers.get("if-range")
        current = (None, page.etag, page.last_modified)
        if condition not in current and not fault.ignore_if_range:
            return None
        first, _, last = header.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, page.size - int(last)), page.size
        return int(first), min(int(last) + 1 if last else page.size, page.size)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self._write(body)

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self._seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self._seen.body_sent += len(data)

    def _body(
        self, page: Page, fault: Fault, status: int, headers: dict[str, str], start: int, end: int
    ) -> None:
        if page.ranges:
            headers.setdefault("Accept-Ranges", "bytes")
        self._head(status, headers, end - start + fault.length_delta)
        if self.command != "GET":
            return
        stops = [
            s for s in (fault.truncate_after, fault.reset_after, fault.stall_after) if s is not None
        ]
        stop = min([start + s for s in stops] + [end])
        plain = fault.flip_at is None and page.pace is None
        if plain and isinstance(page.content, Path):
            with page.content.open("rb") as stream:
                self._seen.body_sent += self.connection.sendfile(stream, start, stop - start or 1)
        else:
            self._pieces(page, fault, start, stop)
        if stop < end or fault.length_delta:
            self._break(fault, stop - start)

    def _pieces(self, page: Page, fault: Fault, start: int, stop: int) -> None:
        position = start
        while position < stop:
            until = min(position + _PIECE, stop)
            piece = _read(page.content, position, until)
            if fault.flip_at is not None and position <= fault.flip_at < until:
                at = fault.flip_at - position
                piece = piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
            self._write(piece)
            position = until
            if page.pace and self.faulty.stopping.wait(len(piece) / page.pace):
                return

    def _break(self, fault: Fault, sent: int) -> None:
        self.close_connection = True
        if fault.stall_after is not None and sent >= fault.stall_after:
            self.wfile.flush()
            self.faulty.stopping.wait(60)
        elif fault.reset_after is not None and sent >= fault.reset_after:
            # No lingering: closing sends a reset instead of the end of the stream.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _etag(content: bytes | Path) -> str:
    if isinstance(content, Path):
        return f'"{content.stat().st_size:x}-{content.stat().st_mtime_ns:x}"'
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _read(content: bytes | Path, start: int, stop: int) -> bytes:
    if isinstance(content, bytes):
        return content[start:stop]
    with content.open("rb") as stream:
        stream.seek(start)
        return stream.read(stop - start)


def http_date(seconds: float) -> str:
    """Return a time as Last-Modified and Retry-After spell it."""
    return email.utils.formatdate(seconds, usegmt=True)
