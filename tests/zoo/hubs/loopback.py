"""A server on this machine that answers as a hub does, and remembers what it was asked."""

import hashlib
from collections.abc import Iterator
from typing import Self
from urllib.parse import urlsplit

from tests.zoo.transfer.faulty_server import FaultyServer, Page, Reply, Seen


class LoopbackHub(FaultyServer):
    """A hub while the block lasts; large files come from its storage, a server at another port.

    `token` opens closed repositories; `tampered` is what the storage sends instead, by SHA-256.
    """

    def __init__(self, token: str) -> None:
        super().__init__(self._answer)
        self.token = token
        self.tampered: dict[str, bytes] = {}
        self.storage = FaultyServer(self._stored)

    def __enter__(self) -> Self:
        self.storage.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.storage.__exit__()

    def _knows(self, request: Seen) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def _answer(self, request: Seen) -> Reply | Page:
        raise NotImplementedError

    def _contents(self) -> Iterator[bytes]:
        """Yield every file."""
        raise NotImplementedError

    def _stored(self, request: Seen) -> Reply | Page:
        """Answer for the storage behind the hub, which knows no token."""
        sha256 = urlsplit(request.path).path.strip("/")
        for content in self._contents():
            if hashlib.sha256(content).hexdigest() == sha256:
                tag = f'"{sha256}"'
                found = self.tampered.get(sha256, content)
                return Page(found, etag=tag, headers={"X-Linked-ETag": tag})
        return Reply(404)
