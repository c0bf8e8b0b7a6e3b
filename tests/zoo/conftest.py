"""Folders and settings of its own for every test; servers and certificates on this machine."""

import ssl

import pytest
import trustme

from tests.zoo.transfer.faulty_server import FaultyServer

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
