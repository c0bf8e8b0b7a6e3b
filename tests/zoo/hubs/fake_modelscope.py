"""A loopback ModelScope: what the real client of modelscope_hub asks, answered alike."""

import hashlib
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from tests.zoo.hubs.loopback import LoopbackHub
from tests.zoo.transfer.faulty_server import Page, Reply, Seen


class FakeModelScope(LoopbackHub):
    """The hub while the block lasts; `repositories` are files by `owner/name`.

    Large files (`.pt`) come from a second server at another port. `token` opens the closed ones.
    """

    def __init__(self, token: str = "ms-secret") -> None:
        super().__init__(token)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.closed: set[str] = set()

    def _answer(self, request: Seen) -> Reply | Page:
        place = urlsplit(request.path)
        path, query = unquote(place.path), parse_qs(place.query)
        if match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo", path):
            return self._file(request, match[1], query["Revision"][0], query["FilePath"][0])
        if match := re.fullmatch(r"/models/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(request, *match.groups())
        return Reply.json({"Code": 10010404, "Message": "not found", "Success": False}, 404)

    def _file(self, request: Seen, name: str, revision: str, path: str) -> Reply | Page:
        if name in self.closed and not self._knows(request):
            return Reply.json({"Code": 403, "Message": "no permission", "Success": False}, 403)
        content = self.repositories.get(name, {}).get(path)
        if content is None or revision != "master":
            return Reply.json({"Code": 10010205, "Message": "not found", "Success": False}, 404)
        sha256 = hashlib.sha256(content).hexdigest()
        if path.endswith(".pt"):
            place = self.storage.url.replace("127.0.0.1", "localhost")  # cookies know no ports
            return Reply(302, headers={"Location": f"{place}/{sha256}"})
        return Page(content, etag=f'"{sha256}"')

    def _contents(self) -> Iterator[bytes]:
        return (content for files in self.repositories.values() for content in files.values())
