"""Hubs on this machine that answer what the real clients ask as the hubs do, and remember it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

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


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    files: dict[str, bytes] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=lambda: {"main", COMMIT})
    gated: bool = False
    private: bool = False
    card: dict[str, Any] = field(default_factory=dict)
    modified: str = "2026-05-04T03:02:01.000Z"


class FakeHuggingFace(LoopbackHub):
    """The hub while the block lasts; `repositories` by `owner/name`, `token` opens closed ones."""

    def __init__(self, token: str = "hf_secret") -> None:
        super().__init__(token)
        self.repositories: dict[str, Repository] = {}
        self._uploaded: dict[str, bytes] = {}

    def _answer(self, request: Seen) -> Reply | Page:
        path = unquote(urlsplit(request.path).path)
        routes: list[tuple[str, Any]] = [
            (r"/api/models", self._list),
            (r"/api/validate-yaml", lambda _: Reply.json({"errors": [], "warnings": []})),
            (r"/api/repos/create", self._create),
            (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self._preupload),
            (r"/api/models/([^/]+/[^/]+)/commit/(.+)", self._commit),
            (r"/api/models/([^/]+/[^/]+)/branch/(.+)", self._branch),
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        ]
        for pattern, route in routes:
            if match := re.fullmatch(pattern, path):
                return route(request, *match.groups())
        return _refusal(404, "EntryNotFound", "no such place")

    def _closed(self, request: Seen, name: str, revision: str | None = None) -> Reply | None:
        """Return the hub's refusal; None if the repository may be read."""
        repository = self.repositories.get(name)
        knows = self._knows(request)
        if repository is None or (repository.private and not knows):
            return _refusal(401, "RepoNotFound", "Repository not found")
        if repository.gated and not knows:
            return _refusal(401, "GatedRepo", f"Access to model {name} is restricted")
        if revision is not None and revision not in repository.revisions:
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _resolve(self, request: Seen, name: str, revision: str, path: str) -> Reply | Page:
        if refusal := self._closed(request, name, revision):
            return refusal
        content = self.repositories[name].files.get(path)
        if content is None:
            return _refusal(404, "EntryNotFound", "Entry not found")
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT}
        if not path.endswith(".pt"):
            return Page(content, etag=f'"{sha256[:40]}"', headers=headers)
        return Reply(
            302,
            headers={
                **headers,
                "X-Linked-ETag": f'"{sha256}"',
                "X-Linked-Size": str(len(content)),
                "ETag": f'"{sha256[:32]}"',
                "Location": f"{self.storage.url}/{sha256}?X-Signature=signed",
            },
        )

    def _stored(self, request: Seen) -> Reply | Page:
        if request.method == "PUT":
            self._uploaded[urlsplit(request.path).path.strip("/")] = request.body
            return Reply()
        return super()._stored(request)

    def _contents(self) -> Iterator[bytes]:
        return (content for one in self.repositories.values() for content in one.files.values())

    def _list(self, request: Seen) -> Reply:
        query = parse_qs(urlsplit(request.path).query)
        words = query.get("search", [""])[0].lower()
        author = query.get("author", [""])[0].lower()
        found = [
            self._described(name)
            for name, repository in self.repositories.items()
            if words in name.lower() and name.lower().startswith(author) and not repository.private
        ]
        return Reply.json(found[: int(query.get("limit", ["100"])[0])])

    def _info(self, request: Seen, name: str, revision: str | None) -> Reply:
        return self._closed(request, name, revision) or Reply.json(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        repository = self.repositories[name]
        return {
            "_id": name,
            "id": name,
            "modelId": name,
            "author": name.split("/", maxsplit=1)[0],
            "sha": COMMIT,
            "lastModified": repository.modified,
            "createdAt": repository.modified,
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "downloads": 3,
            "likes": 1,
            "tags": [
                f"license:{value}" for key, value in repository.card.items() if key == "license"
            ],
            "cardData": repository.card,
            "siblings": [
                {"rfilename": path, "size": len(content)}
                for path, content in repository.files.items()
            ],
        }

    def _create(self, request: Seen) -> Reply:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _refusal(401, "", "Invalid username or password.")
        document = request.json()
        name = f"{document['organization']}/{document['name']}"
        place = {"url": f"{self.url}/{name}", "name": name, "id": name}
        if name in self.repositories:
            return Reply.json({**place, "error": "You already created this repo"}, 409)
        self.repositories[name] = Repository(private=document.get("visibility") == "private")
        return Reply.json(place)

    def _branch(self, request: Seen, name: str, revision: str) -> Reply:
        if refusal := self._closed(request, name):
            return refusal
        known = self.repositories[name].revisions
        if revision in known:
            return Reply.json({"error": "exists"}, 409)
        known.add(revision)
        return Reply.json({})

    def _preupload(self, request: Seen, name: str, revision: str) -> Reply:
        if refusal := self._closed(request, name, revision):
            return refusal
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".pt") else "regular",
                "shouldIgnore": False,
            }
            for file in request.json()["files"]
        ]
        return Reply.json({"files": modes})

    def _batch(self, request: Seen, name: str) -> Reply:
        if refusal := self._closed(request, name):
            return refusal
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.storage.url}/{entry['oid']}"}}}
            for entry in request.json()["objects"]
        ]
        return Reply.json({"transfer": "basic", "objects": objects})

    def _commit(self, request: Seen, name: str, revision: str) -> Reply:
        if refusal := self._closed(request, name, revision):
            return refusal
        files = self.repositories[name].files
        for line in request.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self._uploaded[value["oid"]]
        return Reply.json(
            {
                "success": True,
                "commitUrl": f"{self.url}/{name}/commit/{COMMIT}",
                "commitOid": COMMIT,
            }
        )


def _refusal(status: int, code: str, message: str) -> Reply:
    headers = {"X-Error-Message": message}
    if code:
        headers["X-Error-Code"] = code
    return Reply.json({"error": message}, status, **headers)


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
