"""A folder as a mirror: what it serves, what it never serves, and two processes that talk."""

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from schemas.base.errors import ZooError
from tests.commands import outcome
from tests.zoo.hubs.fake_hubs import FakeHuggingFace, Repository
from zoo.bundle import BundledModel, bundle
from zoo.known_models import known_models
from zoo.server import MirrorServer

ROOT = Path(__file__).parents[2]
CONTENT = random.Random(3).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mirror"
    (folder / "water").mkdir(parents=True)
    (folder / "water" / "m.pt").write_bytes(CONTENT)
    (folder / "registry.yaml").write_text("version: 1\nmodels: []\n")
    (folder / ".hidden").write_text("secret")
    (tmp_path / "outside.pt").write_text("secret")
    (folder / "inside.pt").symlink_to("water/m.pt")
    (folder / "escape.pt").symlink_to(tmp_path / "outside.pt")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.pt")
    return folder


@contextmanager
def serving(folder):
    answered = []
    with MirrorServer(folder, report=answered.append) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.port}"
            with httpx2.Client(base_url=url, trust_env=False) as client:
                yield client, answered
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("wanted", "status", "content", "span"),
    [
        (None, 200, CONTENT, None),
        ("bytes=10-19", 206, CONTENT[10:20], "bytes 10-19/200000"),
        ("bytes=199990-", 206, CONTENT[-10:], "bytes 199990-199999/200000"),
        ("bytes=-7", 206, CONTENT[-7:], "bytes 199993-199999/200000"),
        ("bytes=199999-900000", 206, CONTENT[-1:], "bytes 199999-199999/200000"),
        *(
            (f"bytes={beyond}", 416, b"", "bytes */200000")
            for beyond in ("200000-", "900000-900001", "-0")
        ),
        *(
            (odd, 200, CONTENT, None)
            for odd in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a")
        ),
    ],
)
def test_a_file_is_sent_whole_or_in_part(folder, wanted, status, content, span):
    """What is not understood is answered with the whole file."""
    with serving(folder) as (client, answered):
        reply = client.get("/water/m.pt", headers={"Range": wanted} if wanted else {})
    assert (reply.status_code, reply.content) == (status, content)
    assert reply.headers.get("content-range") == span
    assert [(one.path, one.sent) for one in answered] == [("/water/m.pt", len(content))]


def test_head_says_what_get_would_send(folder):
    with serving(folder) as (client, _):
        head, get = client.head("/water/m.pt"), client.get("/water/m.pt")
        assert head.content == b""
        for name in ("content-length", "etag", "accept-ranges", "last-modified", "content-type"):
            assert head.headers[name] == get.headers[name]


def test_a_part_is_sent_only_of_the_version_that_the_client_knows(folder):
    with serving(folder) as (client, _):
        etag = client.head("/water/m.pt").headers["etag"]
        headers = {"Range": "bytes=5-", "If-Range": etag}
        assert client.get("/water/m.pt", headers=headers).status_code == 206
        (folder / "water" / "m.pt").write_bytes(CONTENT[::-1] + b"!")
        changed = client.get("/water/m.pt", headers=headers)
        assert (changed.status_code, changed.content) == (200, CONTENT[::-1] + b"!")
        assert client.get("/water/m.pt", headers={"If-None-Match": etag}).status_code == 200
        new = {"If-None-Match": changed.headers["etag"]}
        assert client.get("/water/m.pt", headers=new).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/water",
        "/water/",
        "/nothing.pt",
        "/.hidden",
        "/escape.pt",
        "/up/outside.pt",
        "/pipe.pt",
        "/../outside.pt",
        "/water/../../outside.pt",
        "/%2e%2e/outside.pt",
        "/..%2foutside.pt",
        "/water/%2e%2e/%2e%2e/outside.pt",
        "/..%5coutside.pt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/water/m.pt%00.txt",
        "/%ff%fe",
        "/water//m.pt",
        "/water/./m.pt",
        "/" + "a" * 5000,
    ],
)
def test_nothing_but_regular_files_below_the_folder_is_served(folder, path):
    with MirrorServer(folder) as server:
        assert server.find(path) is None


def test_a_request_that_leaves_the_folder_is_answered_with_404(folder):
    with serving(folder) as (client, answered):
        for path in ("/escape.pt", "/%2e%2e/outside.pt", "/water/"):
            reply = client.get(path)
            assert (reply.status_code, reply.content) == (404, b"")
        assert client.get("/inside.pt").content == CONTENT  # a link within the folder
    assert [one.status for one in answered] == [404, 404, 404, 200]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(folder, method):
    with serving(folder) as (client, _):
        assert client.request(method, "/water/m.pt").status_code == 501
    assert (folder / "water" / "m.pt").read_bytes() == CONTENT


def test_what_cannot_be_served_is_said_in_a_sentence(folder, tmp_path):
    with MirrorServer(folder) as server:
        says = f"cannot listen at 127.0.0.1, port {server.port}"
        with pytest.raises(ZooError, match=says):
            MirrorServer(folder, port=server.port)
    with pytest.raises(ZooError, match="is not a folder"):
        MirrorServer(tmp_path / "nothing")


@pytest.fixture
def said(monkeypatch):
    """What `zoo serve` says before it serves; nothing but this machine is listened to."""

    def bind(server):
        server.server_address = ("127.0.0.1", 0)
        ThreadingHTTPServer.server_bind(server)

    monkeypatch.setattr(MirrorServer, "server_bind", bind)
    monkeypatch.setattr(MirrorServer, "serve_forever", lambda *_, **__: None)

    def run(*arguments):
        return outcome("serve", "--port", "0", *arguments)

    return run


def test_what_a_client_needs_is_said(folder, said):
    here, network = said(folder), said(folder, "--host", "0.0.0.0")
    assert here.stdout.startswith("zoo registry add http://127.0.0.1:")
    assert "--insecure" not in here.stdout
    assert "warning" not in here.stderr
    assert network.stdout.startswith(f"zoo registry add http://{socket.gethostname()}:")
    assert network.stdout.endswith("/registry.yaml --insecure\n")
    assert "nothing is encrypted" in network.stderr
    (folder / "registry.yaml").unlink()
    assert "has no registry.yaml" in said(folder).stderr


def zoo(*arguments, **settings):
    command = [sys.executable, "-m", "cli.main", *arguments]
    options = {"cwd": ROOT, "env": {**os.environ, **settings}, "text": True}
    return subprocess.run(command, check=False, capture_output=True, **options)


def test_a_second_process_pulls_a_bundle_that_the_first_one_serves(tmp_path):
    tiny = known_models().find("DPA2_water_tiny").model
    carried = tiny.model_copy(update={"name": "carried", "aliases": []})
    folder = tmp_path / "bundle"
    bundle([BundledModel(ROOT / "zoo" / "models" / "DPA2_water_tiny.pt", carried)], folder)
    serve = [sys.executable, "-m", "cli.main", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(
        serve, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            command = server.stdout.readline().split()
            assert command[:3] == ["zoo", "registry", "add"]
            added = zoo(*command[1:])
            assert added.returncode == 0, added.stderr
            pulled = zoo("pull", "carried", "-o", tmp_path / "here")
            assert pulled.returncode == 0, pulled.stderr
        finally:
            server.send_signal(signal.SIGINT)
            _, messages = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "GET /carried/DPA2_water_tiny.pt 200 3,165,455 bytes" in messages
    assert messages.endswith("stopped\n")
    content = (tmp_path / "here" / "DPA2_water_tiny.pt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == carried.file.sha256


def test_a_second_process_pulls_from_a_hub_that_its_environment_names(tmp_path):
    with FakeHuggingFace() as hub:
        hub.repositories["owner/model"] = Repository({"m.pt": CONTENT}, gated=True)
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_TOKEN": hub.token}
        settings["HF_HUB_CACHE"] = str(tmp_path / "hub")
        pulled = zoo("pull", "hf://owner/model/m.pt", "--json", **settings)
        assert hub.token not in pulled.stdout + pulled.stderr
    found = json.loads(pulled.stdout)
    assert found["sha256"] == SHA256
    assert Path(found["path"]).is_relative_to(tmp_path / "hub")
