"""Whom transfers talk to, whom they trust, and what they tell to whom."""

import hashlib
import socket
import threading
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Self

import pytest

from schemas.base.errors import TransferError
from tests.zoo.transfer.faulty_server import Fault, FaultyServer, Reply
from tests.zoo.transfer.watcher import SHORT, content
from zoo.transfer.client import check_url, new_client, open_reply
from zoo.transfer.download import download
from zoo.transfer.remote import Download, Remote, shown


class ConnectProxy:
    """Speaks CONNECT and remembers for whom.

    Args:
        port: Of the server on this machine to which everything leads.
    """

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                proxy.asked.append(self.rfile.readline().decode().strip())
                while self.rfile.readline().strip():
                    pass
                with socket.create_connection(("127.0.0.1", port)) as onward:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(
                        target=_pump, args=(onward, self.connection), daemon=True
                    )
                    back.start()
                    _pump(self.connection, onward)
                    back.join()

        class Server(ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


DATA = content(50_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def fetch(url: str, folder: Path, **headers: str) -> Download:
    remote = Remote(url, "server", headers=headers)
    return download([remote], folder / "model.pt", sha256=SHA256, size=None, policy=SHORT)


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example/a",
        "http://127.0.0.1:80/a",
        "http://127.9.8.7/a",
        "http://[::1]:8000/a",
        "http://localhost/a",
        "http://LOCALHOST/a",
    ],
)
def test_https_and_plain_http_to_this_machine_are_allowed(url):
    check_url(Remote(url, "host"))


@pytest.mark.parametrize(
    "url",
    [
        "http://models.example/a",
        "http://10.0.0.1/a",
        "http://0.0.0.0/a",
        "http://localhost.example/a",
        "http://127.0.0.1.example/a",
        "ftp://a/b",
        "file:///etc/passwd",
        "models.example/a",
        "https:///a",
        "https://a:port/b",
        "",
    ],
)
def test_every_other_address_is_refused(url):
    with pytest.raises(TransferError) as caught:
        check_url(Remote(url, "host"))
    assert "fetched" in str(caught.value) or "http" in str(caught.value)


def test_plain_http_to_another_machine_needs_a_flag():
    check_url(Remote("http://10.0.0.1:8000/model.pt", "node", insecure=True))


def test_an_address_in_a_message_holds_no_secrets():
    url = "https://user:password@models.example:8443/a/model.pt?token=secret#part"
    assert shown(url) == "https://models.example:8443/a/model.pt"


def test_headers_of_a_remote_are_not_in_its_representation():
    assert "secret" not in repr(Remote("https://a/b", "a", headers={"Authorization": "secret"}))


def test_a_token_goes_to_its_own_origin_and_not_along_with_a_redirect(
    server, other_server, tmp_path
):
    with FaultyServer() as neighbour:  # another port of the same host
        for number, place in enumerate((server, other_server, neighbour)):
            there = place.serve(f"/new/{number}", DATA)
            here = server.serve(f"/{number}", DATA, faults=[Fault(redirect=there.url)])
            (tmp_path / "model.pt").unlink(missing_ok=True)
            fetch(here.url, tmp_path, Authorization="Bearer secret")
            (asked,), (redirected,) = server.seen(f"/{number}"), place.seen(f"/new/{number}")
            assert asked.headers["authorization"] == "Bearer secret"
            assert redirected.body_sent == len(DATA)
            assert ("secret" in str(redirected.headers)) == (place is server)


def test_an_error_never_shows_a_token(server, tmp_path):
    page = server.serve("/model.pt?signature=secret", DATA, faults=[Fault(status=403)])
    with pytest.raises(TransferError, match="403 Forbidden") as caught:
        fetch(page.url, tmp_path, Authorization="Bearer secret")
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "target", ["http://models.example/model.pt", "ftp://models.example/a", "file:///etc/passwd"]
)
def test_a_redirect_into_the_clear_is_refused(server, tmp_path, target):
    page = server.serve("/model.pt", DATA, faults=[Fault(redirect=target)])
    with pytest.raises(TransferError, match=r"redirects to .*, which is not https"):
        fetch(page.url, tmp_path)


def test_https_never_turns_into_http_not_even_on_this_machine(
    server, tls, authority_file, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority_file))
    plain = server.serve("/model.pt", DATA)
    with FaultyServer(tls=tls) as secure:
        page = secure.serve("/model.pt", DATA, faults=[Fault(redirect=plain.url)])
        with pytest.raises(TransferError, match="which is not https"):
            fetch(page.url, tmp_path)
    assert server.requests == []


def test_redirects_without_end_are_an_error(server, tmp_path):
    url = server.answer("/model.pt", lambda _: Reply(302, headers={"Location": "/model.pt"}))
    with pytest.raises(TransferError, match="redirected without end"):
        fetch(url, tmp_path)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_private_authority_is_trusted_when_the_environment_names_it(
    tls, authority_file, monkeypatch, tmp_path, variable
):
    monkeypatch.setenv(variable, str(authority_file))
    with FaultyServer(tls=tls) as secure:
        assert fetch(secure.serve("/model.pt", DATA).url, tmp_path).sha256 == SHA256


def test_an_untrusted_certificate_is_refused(tls, tmp_path):
    with FaultyServer(tls=tls) as secure:
        page = secure.serve("/model.pt", DATA)
        with pytest.raises(TransferError, match="certificate is not trusted") as caught:
            fetch(page.url, tmp_path)
        assert secure.requests == []
    assert "SSL_CERT_FILE" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("REQUESTS_CA_BUNDLE", "/nothing.pem", r"REQUESTS_CA_BUNDLE names .*nothing\.pem"),
        ("HTTPS_PROXY", "gopher://proxy", "proxy settings"),
    ],
)
def test_settings_that_cannot_be_used_are_an_error_for_people(monkeypatch, variable, value, says):
    monkeypatch.setenv(variable, value)
    with pytest.raises(TransferError, match=says):
        new_client()


def test_https_goes_through_the_proxy_of_the_environment(
    tls, authority_file, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority_file))
    with FaultyServer(tls=tls) as secure, ConnectProxy(secure.port) as proxy:
        secure.serve("/model.pt", DATA)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        found = fetch("https://models.example/model.pt", tmp_path, Authorization="Bearer secret")
        assert found.sha256 == SHA256
        assert secure.seen("/model.pt")[0].headers["host"] == "models.example"
        assert proxy.asked == ["CONNECT models.example:443 HTTP/1.1"]


def test_plain_http_to_this_machine_never_leaves_it_through_a_proxy(server, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert fetch(server.serve("/model.pt", DATA).url, tmp_path).sha256 == SHA256


def test_the_program_says_its_name_and_wants_no_compression(server):
    page = server.serve("/model.pt", DATA)
    with new_client() as client, open_reply(client, "HEAD", Remote(page.url, "server")) as reply:
        assert reply.status_code == 200
    (seen,) = server.seen("/model.pt", "HEAD")
    assert seen.headers["user-agent"].startswith("dpa-zoo")
    assert seen.headers["accept-encoding"] == "identity"
