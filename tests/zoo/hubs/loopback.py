"""A server on this machine that answers as a hub does, and remembers what it was asked."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


class Reply:
    def __init__(
        self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.body, self.headers = status, body, dict(headers or {})

    @classmethod
    def json(cls, document: Any, status: int = 200, **headers: str) -> "Reply":
        return cls(
            status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers}
        )


class Loopback:
    """Serves `answer(request)` at `url` while the block lasts; `requests` are what came."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else b""
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = self._chunks()
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                outer.requests.append(request)
                reply = answer(request)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    with suppress(ConnectionError):
                        self.wfile.write(reply.body)

            def _chunks(self) -> bytes:
                found = b""
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815 - http.server

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def asked(self, method: str, part: str = "") -> list[Request]:
        """The requests of a method whose path holds `part`."""
        return [one for one in self.requests if one.method == method and part in one.path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class LoopbackHub:
    """A hub while the block lasts; large files come from its storage, a server at another port.

    `token` opens closed repositories; `tampered` is what the storage sends instead, by SHA-256.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.tampered: dict[str, bytes] = {}
        self._hub = Loopback(self._answer)
        self.storage = Loopback(self._stored)
        self.url = self._hub.url
        self.requests = self._hub.requests
        self.asked = self._hub.asked

    def __enter__(self) -> Self:
        self._hub.__enter__()
        self.storage.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.__exit__()
        self.storage.__exit__()

    def _knows(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def _answer(self, request: Request) -> Reply:
        raise NotImplementedError

    def _contents(self) -> Iterator[bytes]:
        """Yield every file."""
        raise NotImplementedError

    def _stored(self, request: Request) -> Reply:
        """Answer for the storage behind the hub, which knows no token."""
        sha256 = urlsplit(request.path).path.strip("/")
        for content in self._contents():
            if hashlib.sha256(content).hexdigest() == sha256:
                tag = f'"{sha256}"'
                headers = {"ETag": tag, "X-Linked-ETag": tag}
                return ranged(request, self.tampered.get(sha256, content), headers)
        return Reply(404)


def ranged(request: Request, content: bytes, headers: Mapping[str, str]) -> Reply:
    """Answer with the file, or with the range that was asked for."""
    common = {"Accept-Ranges": "bytes", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    wanted = request.headers.get("if-range")
    if match is None or (wanted is not None and wanted != common.get("ETag")):
        return Reply(200, content, {**common, "Content-Length": str(len(content))})
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last or len(content) - 1), len(content) - 1)
    else:
        start, end = max(0, len(content) - int(last)), len(content) - 1
    if start >= len(content):
        return Reply(416, b"", {**common, "Content-Range": f"bytes */{len(content)}"})
    part = content[start : end + 1]
    span = f"bytes {start}-{end}/{len(content)}"
    return Reply(206, part, {**common, "Content-Range": span, "Content-Length": str(len(part))})
