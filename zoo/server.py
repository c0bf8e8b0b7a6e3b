"""A mirror for a local network: serves the files of one folder, and nothing else."""

import os
import re
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from schemas.base.errors import ZooError

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_TYPES = {".yaml": "application/yaml", ".md": "text/markdown; charset=utf-8"}
_IDLE = 60.0
"""Seconds after which a connection that asks for nothing is closed."""


@dataclass(frozen=True, slots=True)
class Served:
    """A request that was answered.

    Args:
        client: Address of who asked.
        method: GET or HEAD.
        path: What was asked for, percent-encoded.
        status: Of the answer.
        sent: Bytes of the body.
        seconds: That it took.
    """

    client: str
    method: str
    path: str
    status: int
    sent: int
    seconds: float


class MirrorServer(ThreadingHTTPServer):
    """Answers GET and HEAD for the regular files below a folder.

    Folders are not listed. Hidden files, and symbolic links that lead out of the folder, do not
    exist for a client. Parts of files are sent (`Range`, `If-Range`), so that an interrupted
    download goes on, and one branch of a model can be read alone.

    Args:
        folder: What is served.
        host: Address to listen at; the default can be reached from this machine only.
        port: 0 chooses a free one.
        report: Called in the thread that answered, after each answer.

    Raises:
        ZooError: When the folder is none, or the address cannot be used.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        report: Callable[[Served], None] = lambda _: None,
    ) -> None:
        if not folder.is_dir():
            raise ZooError(f"{folder} is not a folder", hint="make one: zoo bundle MODEL -o FOLDER")
        self.folder = folder.resolve()
        self.report = report
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ZooError(
                f"cannot listen at {host}, port {port}: "
                f"{getattr(error, 'strerror', None) or error}",
                hint="choose another --port, or an address of this machine as --host",
            ) from error

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is no fault of the server."""

    def find(self, path: str) -> Path | None:
        """Return the file that a request's path means; None if a client may not have it."""
        try:
            parts = unquote_to_bytes(urlsplit(path).path).decode().strip("/").split("/")
        except ValueError:
            return None
        if any(not part or part.startswith(".") or _is_odd(part) for part in parts):
            return None
        try:
            file = self.folder.joinpath(*parts).resolve(strict=True)
            regular = stat.S_ISREG(file.stat().st_mode)
        except (OSError, RuntimeError, ValueError):
            return None
        return file if regular and file.is_relative_to(self.folder) else None


class _Handler(BaseHTTPRequestHandler):
    server: MirrorServer
    protocol_version = "HTTP/1.1"
    server_version = "zoo-serve"
    sys_version = ""
    timeout = _IDLE

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        begin = time.monotonic()
        self._status, self._sent = 0, 0
        try:
            self._send()
        finally:
            self.server.report(
                Served(
                    client=str(self.client_address[0]),
                    method=self.command,
                    path=quote(self.path, safe="/%?=&"),
                    status=self._status,
                    sent=self._sent,
                    seconds=time.monotonic() - begin,
                )
            )

    def _send(self) -> None:
        path = self.server.find(self.path)
        if path is None:
            self._head(HTTPStatus.NOT_FOUND, 0)
            return
        with path.open("rb", buffering=0) as file:
            state = os.fstat(file.fileno())
            etag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
            common = {
                "ETag": etag,
                "Last-Modified": self.date_time_string(int(state.st_mtime)),
                "Accept-Ranges": "bytes",
                "Content-Type": _TYPES.get(path.suffix, "application/octet-stream"),
            }
            if etag in self.headers.get("If-None-Match", ""):
                self._head(HTTPStatus.NOT_MODIFIED, None, common)
                return
            part = self._part(state.st_size, etag)
            if part is None:
                self._head(HTTPStatus.OK, state.st_size, common)
                part = range(state.st_size)
            elif len(part) == 0:
                span = {"Content-Range": f"bytes */{state.st_size}"}
                self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, common | span)
                return
            else:
                span = {"Content-Range": f"bytes {part.start}-{part.stop - 1}/{state.st_size}"}
                self._head(HTTPStatus.PARTIAL_CONTENT, len(part), common | span)
            if self.command == "GET" and part:
                self._copy(file, part)

    def _part(self, size: int, etag: str) -> range | None:
        """Return the bytes asked for, none of them if there are no such; None: the whole file.

        Several parts in one request are answered with the whole file, which HTTP allows.
        """
        match = _RANGE.fullmatch(self.headers.get("Range", "").strip())
        if match is None or match.groups() == ("", ""):
            return None
        if self.headers.get("If-Range", etag) != etag:
            return None
        first, last = match.groups()
        if not first:
            return range(max(0, size - int(last)), size)
        if last and int(last) < int(first):
            return None
        return range(int(first), min(int(last) + 1 if last else size, size))

    def _copy(self, file: Any, part: range) -> None:
        self.wfile.flush()
        try:
            self._sent = self.connection.sendfile(file, part.start, len(part))
        except OSError:  # the client went away
            self._sent = max(0, file.tell() - part.start)
        if self._sent < len(part):
            self.close_connection = True  # or the file has become shorter: end the body visibly

    def _head(
        self, status: HTTPStatus, length: int | None, headers: dict[str, str] | None = None
    ) -> None:
        self._status = int(status)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("X-Content-Type-Options", "nosniff")
        with suppress(ConnectionError):
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing: `report` does."""


def _is_odd(part: str) -> bool:
    return "\\" in part or "\0" in part or (os.name == "nt" and ":" in part)
