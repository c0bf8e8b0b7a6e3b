"""The order in which mirrors are tried."""

import pytest

from tests.zoo.transfer.faulty_server import Fault, FaultyServer
from zoo.transfer.latency import by_latency, order
from zoo.transfer.remote import Remote


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
def test_a_mirror_overtakes_only_if_it_is_clearly_faster(
    seconds: list[float | None], expected: list[int]
) -> None:
    assert order(seconds) == expected


def test_mirrors_that_fail_come_last(server: FaultyServer) -> None:
    content = bytes(100_000)
    missing = Remote(f"{server.url}/missing", "missing")
    silent = Remote(server.serve("/silent", content, faults=[Fault(status=503)]).url, "broken")
    closed = Remote("http://127.0.0.1:9/model.pt", "closed")
    clear = Remote("http://models.example/model.pt", "in the clear")
    good = Remote(server.serve("/good", content).url, "good")
    remotes = [missing, silent, closed, clear, good]
    assert by_latency(remotes) == [good, missing, silent, closed, clear]


def test_a_mirror_that_does_not_answer_costs_the_timeout_and_no_more(server: FaultyServer) -> None:
    stuck = server.serve("/stuck", bytes(10))
    # No status line comes before the pause: the answer is made by a function that waits.
    server.answer("/stuck", lambda _: server.stopping.wait(30) and None)  # type: ignore[return-value]
    good = server.serve("/good", bytes(10))
    found = by_latency([Remote(stuck.url, "stuck"), Remote(good.url, "good")], timeout=0.2)
    assert [remote.label for remote in found] == ["good", "stuck"]


def test_one_byte_is_asked_for(server: FaultyServer) -> None:
    pages = [server.serve(f"/{name}", bytes(10_000)) for name in "ab"]
    by_latency([Remote(page.url, page.url) for page in pages])
    assert [server.sent(path) for path in ("/a", "/b")] == [1, 1]


def test_a_single_source_is_not_asked_at_all(server: FaultyServer) -> None:
    remote = Remote(server.serve("/a", b"x").url, "a")
    assert by_latency([remote]) == [remote]
    assert server.requests == []
