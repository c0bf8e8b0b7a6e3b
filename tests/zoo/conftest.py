"""Folders and settings of its own for every test; servers, certificates and downloads."""

import ssl

import pytest
import trustme
import yaml
from huggingface_hub import constants

from schemas.base.errors import TransferError
from tests.zoo.hubs.fake_hubs import FakeHuggingFace
from tests.zoo.transfer.faulty_server import FaultyServer
from tests.zoo.transfer.watcher import BREAK, DATA, GONE, HALF, SHA256, SHORT
from zoo.transfer.download import download
from zoo.transfer.remote import Remote

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OFFLINE = ("ZOO_OFFLINE", "HF_HUB_OFFLINE")


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """No cache, no registry, no proxy and no certificates of the person who runs the test."""
    home = tmp_path.with_name(f"{tmp_path.name}-home")
    monkeypatch.setenv("ZOO_CACHE", str(home / "cache"))
    monkeypatch.setenv("ZOO_CONFIG", str(home / "config"))
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "huggingface"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(home / "modelscope"))
    for name in (*_PROXIES, *map(str.lower, _PROXIES), *_CERTIFICATES, *_OFFLINE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with FaultyServer() as running:
        yield running


@pytest.fixture
def other_server():
    """The same machine under another name, so another host."""
    with FaultyServer(host="localhost") as running:
        yield running


@pytest.fixture(scope="session")
def authority():
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def authority_file(authority, tmp_path):
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def tls(authority):
    """What a server needs whose certificate the authority signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost", "models.example").configure_cert(context)
    return context


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face on this machine, its real client, and a token for it."""
    with FakeHuggingFace() as running:
        point_to(monkeypatch, running.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", running.token)
        yield running


def point_to(monkeypatch, url):
    """Let the client of Hugging Face ask at an address."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def fetch(tmp_path):
    def run(*pages, sha256=SHA256, size=None, name="model.pt", **options):
        remotes = [
            one if isinstance(one, Remote) else Remote(getattr(one, "url", one), f"mirror {number}")
            for number, one in enumerate(pages)
        ]
        options = {"policy": SHORT} | options
        return download(remotes, tmp_path / name, sha256=sha256, size=size, **options)

    return run


@pytest.fixture
def names(tmp_path):
    return lambda: sorted(path.name for path in tmp_path.iterdir())


@pytest.fixture
def left_half(server, fetch, tmp_path):
    """Leaves half of the file behind; returns its page and the partial file."""

    def leave(sha256=SHA256):
        page = server.serve("/model.pt", DATA, faults=[BREAK, GONE])
        with pytest.raises(TransferError, match="404"):
            fetch(page, sha256=sha256)
        (part,) = tmp_path.glob(".model.pt.*.part")
        assert part.stat().st_size == HALF
        return page, part

    return leave


def model(name, **changes):
    """Return the entry of a model in a registry."""
    source = {"kind": "file", "path": f"{name}.pt"}
    return {
        "name": name,
        "description": f"Model {name}.",
        "family": "DPA-2",
        "trainable": True,
        "file": {"name": f"{name}.pt", "sources": [source]},
    } | changes


def registry_text(*models):
    return yaml.safe_dump({"version": 1, "models": list(models)})


def write_registry(folder, *models):
    """Write a registry into a folder; return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / "registry.yaml"
    path.write_text(registry_text(*models))
    return path
