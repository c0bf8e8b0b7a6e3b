"""The order in which mirrors are tried."""

import errno
import socket
import threading
import time

import pytest

from tests.zoo.transfer.faulty_server import Fault, FaultyServer
from zoo.transfer.remote import Remote, UnreachableError
from zoo.transfer.sources import by_latency, order


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0.2, 0.2], [0, 1]),
        ([0.2, 0.15], [0, 1]),
        ([0.2, 0.09], [1, 0]),
        ([0.004, 0.001], [0, 1]),
        ([0.5, 0.3, 0.1], [2, 0, 1]),
        ([None, 0.5], [1, 0]),
        ([0.5, None, 0.1], [2, 0, 1]),
        ([None, None, 2.0, None], [2, 0, 1, 3]),
        ([], []),
    ],
)
def test_a_mirror_overtakes_only_if_it_is_clearly_faster(seconds, expected):
    assert order(seconds) == expected


def test_mirrors_that_fail_come_last(server):
    content = bytes(100_000)
    missing = Remote(f"{server.url}/missing", "missing")
    silent = Remote(server.serve("/silent", content, faults=[Fault(status=503)]).url, "broken")
    closed = Remote("http://127.0.0.1:9/model.pt", "closed")
    clear = Remote("http://models.example/model.pt", "in the clear")
    good = Remote(server.serve("/good", content).url, "good")
    remotes = [missing, silent, closed, clear, good]
    assert by_latency(remotes) == [good, missing, silent, closed, clear]


def test_a_mirror_that_does_not_answer_costs_the_timeout_and_no_more(server):
    stuck = server.serve("/stuck", bytes(10))
    # No status line comes before the pause: the answer is made by a function that waits.
    server.answer("/stuck", lambda _: server.stopping.wait(30) and None)  # type: ignore[return-value]
    good = server.serve("/good", bytes(10))
    found = by_latency([Remote(stuck.url, "stuck"), Remote(good.url, "good")], timeout=0.2)
    assert [remote.label for remote in found] == ["good", "stuck"]


def test_one_byte_is_asked_for(server):
    pages = [server.serve(f"/{name}", bytes(10_000)) for name in "ab"]
    by_latency([Remote(page.url, page.url) for page in pages])
    asked = [[seen.headers["range"] for seen in server.seen(path)] for path in ("/a", "/b")]
    assert asked == [["bytes=0-0"], ["bytes=0-0"]]
    # The server counts what it sent a moment after the client has seen the answer begin.
    end = time.monotonic() + 10.0
    while sum(map(server.sent, ("/a", "/b"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert [server.sent(path) for path in ("/a", "/b")] == [1, 1]


def test_of_a_single_source_only_the_host_is_asked_and_gets_no_token(server):
    url = server.serve("/a", b"x").url
    remote = Remote(f"{url}?signature=1", "a", headers={"Authorization": "secret"})
    assert by_latency([remote]) == [remote]
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("HEAD", "/")
    assert "authorization" not in seen.headers


@pytest.fixture
def names(monkeypatch):
    """Sets what a name server does when it is asked for `lost.example`."""
    known = socket.getaddrinfo

    def use(behaviour):
        def ask(host, *rest, **options):
            if host == "lost.example":
                behaviour()
                host = "127.0.0.1"
            return known(host, *rest, **options)

        monkeypatch.setattr(socket, "getaddrinfo", ask)

    return use


def unknown():
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


CLOSED = Remote("http://127.0.0.1:9/model.pt", "closed")
LOST = Remote("https://lost.example/model.pt", "lost")


@pytest.mark.parametrize("remotes", [[CLOSED], [LOST], [CLOSED, LOST]])
def test_where_no_host_can_be_reached_each_says_why(names, remotes):
    names(unknown)
    with pytest.raises(UnreachableError, match=r"model\.pt cannot be fetched") as caught:
        by_latency(remotes)
    assert ("closed: it refuses connections" in caught.value.message) == (CLOSED in remotes)
    assert ("lost: its name is not found" in caught.value.message) == (LOST in remotes)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "it does not answer"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no network leads to it"),
    ],
)
def test_no_way_and_no_answer_are_no_network(names, error, reason):
    def fail():
        raise error

    names(fail)
    with pytest.raises(UnreachableError, match=f"lost: {reason}"):
        by_latency([LOST, CLOSED])


def test_a_connection_that_is_reset_may_come_back(names):
    def fail():
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    names(fail)
    assert by_latency([LOST, CLOSED]) == [LOST, CLOSED]


def test_a_name_server_that_missed_a_question_is_asked_again(names):
    misses = [unknown]
    names(lambda: misses.pop()() if misses else None)
    with FaultyServer() as server:
        remote = Remote(f"http://lost.example:{server.port}/a", "lost", insecure=True)
        assert by_latency([remote]) == [remote]


def test_a_name_server_that_does_not_answer_is_not_waited_for(names):
    done = threading.Event()
    names(lambda: done.wait(60))
    with pytest.raises(UnreachableError, match="lost: it does not answer"):
        by_latency([LOST, CLOSED], timeout=0.1)
    done.set()


@pytest.mark.parametrize("others", [[], [CLOSED]])
def test_a_host_that_answers_anything_is_reached(server, others):
    missing = Remote(f"{server.url}/missing", "missing")
    assert by_latency([missing, *others]) == [missing, *others]


def test_a_certificate_that_is_not_trusted_is_no_lack_of_a_network(tls):
    with FaultyServer(tls=tls) as server:
        remote = Remote(f"{server.url}/a", "a")
        assert by_latency([remote]) == [remote]
