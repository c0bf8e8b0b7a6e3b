"""The catalogues of Hugging Face, through its real client, and of AIS Square."""

from datetime import UTC, datetime

import pytest
from huggingface_hub import constants

from tests.zoo.hubs.fake_hubs import Repository
from tests.zoo.transfer.faulty_server import FaultyServer, Reply
from zoo.hubs.catalogue import search_online

STORE = "https://store.aissquare.com/models/1"
LISTED = {
    "ID": 287,
    "type": "models",
    "name": "DPA-2.3.1-v3.0.0rc0",
    "modifyDate": "2025-12-29T00:00:00+08:00",
    "files": [
        {"fileName": "medium.pt", "downloadLink": f"{STORE}/medium.pt", "size": 100},
        {"fileName": "input.json", "downloadLink": f"{STORE}/input.json", "size": 5},
    ],
}


@pytest.fixture
def square(hub, monkeypatch):
    """The catalogue of AIS Square: replies by the beginning of a path, set by the test."""
    replies = {"/content/models": Reply.json({"data": {"items": [LISTED], "total": 1}})}

    def answer(request):
        for path, reply in replies.items():
            if request.path.startswith(path):
                return reply
        return Reply(404)

    with FaultyServer(answer) as server:
        monkeypatch.setenv("AISSQUARE_ENDPOINT", server.url)
        server.replies = replies
        yield server


def test_both_catalogues_are_searched(hub, square):
    files = {"dpa2.pt": b"12345", "README.md": b"#"}
    hub.repositories["lab/dpa-2-copper"] = Repository(files, card={"license": "cc-by-4.0"})
    hub.repositories["lab/bert"] = Repository({"bert.pt": b"1"})
    found = search_online("dpa-2")
    assert not found.failures
    ours, theirs = found.found
    assert (ours.hub, ours.id, ours.licence) == ("Hugging Face", "lab/dpa-2-copper", "cc-by-4.0")
    assert [file.url for file in ours.files] == ["hf://lab/dpa-2-copper/dpa2.pt"]
    assert ours.updated == datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    assert (theirs.hub, theirs.id, theirs.size) == ("AIS Square", "DPA-2.3.1-v3.0.0rc0", 100)
    assert theirs.files[0].url == f"{STORE}/medium.pt"
    assert "id=287" in theirs.url
    assert theirs.updated is not None


def test_an_owner_restricts_the_search_of_hugging_face(hub, square):
    hub.repositories["lab/dpa2"] = Repository({"m.pt": b"1"})
    hub.repositories["other/dpa2"] = Repository({"m.pt": b"1"})
    found = search_online("lab/dpa2")
    assert [one.id for one in found.found] == ["lab/dpa2"]


def test_the_limit_holds_for_each_hub(hub, square):
    for number in range(4):
        hub.repositories[f"lab/dpa-{number}"] = Repository({"m.pt": b"1"})
    square.replies["/content/models"] = Reply.json(
        {"items": [{**LISTED, "name": f"DPA-{number}"} for number in range(4)]}
    )
    hubs = [one.hub for one in search_online("dpa", limit=2).found]
    assert hubs == ["Hugging Face", "Hugging Face", "AIS Square", "AIS Square"]


def test_a_hub_that_fails_costs_the_other_nothing(hub, square, monkeypatch):
    hub.repositories["lab/dpa-2"] = Repository({"m.pt": b"1"})
    good = square.replies.pop("/content/models")
    found = search_online("dpa-2")
    assert [one.id for one in found.found] == ["lab/dpa-2"]
    assert "404" in found.failures["AIS Square"].message
    square.replies["/content/models"] = good
    monkeypatch.setattr(constants, "ENDPOINT", f"{square.url}/nothing")
    found = search_online("dpa-2")
    assert [one.hub for one in found.found] == ["AIS Square"]
    assert "404" in found.failures["Hugging Face"].message


def test_files_that_the_list_leaves_out_are_asked_for(square):
    square.replies["/content/models"] = Reply.json(
        {"data": {"items": [{"ID": 5, "name": "DPA-9", "type": "models"}]}}
    )
    square.replies["/dpa/detail/models?id=5&name=DPA-9"] = Reply.json(
        {"data": {"ID": 5, "name": "DPA-9", "files": LISTED["files"]}}
    )
    (model,) = search_online("dpa-9").found
    assert [file.name for file in model.files] == ["medium.pt"]


@pytest.mark.parametrize(
    "item",
    [
        {"name": "DPA-9"},
        {"name": "DPA-9", "ID": "five", "modifyDate": "yesterday", "files": None},
        {"name": "DPA-9", "files": [{"fileName": "m.pt", "size": -1, "downloadLink": "ftp://a"}]},
    ],
)
def test_an_incomplete_entry_of_ais_square_is_shown_as_far_as_it_goes(square, item):
    square.replies["/content/models"] = Reply.json([item, 7, {"no": "name"}, None])
    (model,) = search_online("dpa").found
    assert model.id == "DPA-9"
    assert all(file.url is None and file.size is None for file in model.files)


def test_data_sets_of_ais_square_are_no_models(square):
    square.replies["/content/models"] = Reply.json([{**LISTED, "type": "datasets"}])
    assert search_online("dpa").found == []


@pytest.mark.parametrize("body", [b"<html>login</html>", b"{}", b'{"data": 5}', b"\xff"])
def test_an_answer_of_another_form_is_an_error_in_a_sentence(square, body):
    square.replies["/content/models"] = Reply(200, body)
    failure = search_online("dpa").failures["AIS Square"]
    assert "the catalogue answered" in failure.message
