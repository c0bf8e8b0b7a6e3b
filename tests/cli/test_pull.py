"""`zoo pull`, `verify` and `cache`: models that are fetched, checked and thrown away."""

import hashlib
import json
import re
import zipfile
from pathlib import Path

import pytest

from schemas.base import environment
from schemas.base.errors import CheckpointError, RegistryError, TransferError, WriteError
from schemas.checkpoint.header import read_header
from tests.commands import document as zoo
from tests.commands import outcome
from tests.zoo.transfer.faulty_server import FaultyServer
from zoo.registry import PACKAGE

BUNDLED = PACKAGE / "models" / "DPA2_water_tiny.pt"
CONTENT = BUNDLED.read_bytes()
INPUT = Path(__file__).parents[2] / "examples" / "pretrained" / "input.json"
TRAINING = json.loads(INPUT.read_text(encoding="utf-8"))["training"]
SHA256 = hashlib.sha256(CONTENT).hexdigest()


pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def server():
    with FaultyServer() as server:
        server.serve("/water.pt", CONTENT)
        yield server


@pytest.fixture
def register(server, add_registry):
    """Adds a registry with the model `Water`, its file changed as asked."""

    def register(**changes):
        sources = [{"kind": "https", "url": server.pages["/water.pt"].url}]
        file = {"name": "water.pt", "sha256": SHA256, "sources": sources} | changes
        file = {key: value for key, value in file.items() if value is not None}
        return add_registry({"name": "Water", "aliases": ["wet"], "file": file})

    return register


def test_a_model_is_fetched_once_and_then_found_by_name(server, register):
    register()
    assert zoo("list")["models"][0]["where"] == "remote"
    first = zoo("pull", "wet")
    assert (first["received"], first["sha256"]) == (len(CONTENT), SHA256)
    again = zoo("pull", "WATER", "--offline")
    assert (again["received"], again["path"]) == (0, first["path"])
    assert server.sent("/water.pt") == len(CONTENT)
    assert zoo("list")["models"][0]["where"] == "cached"
    assert zoo("show", "water")["file"]["steps"] == TRAINING["numb_steps"]
    assert zoo("branches", "water")["model"] == first["path"]
    assert zoo("verify", "water")["files"][0]["verdict"] == "right"


def test_the_command_that_comes_next_has_the_names_of_the_user(register):
    register()
    result = outcome("pull", "Water")
    assert "zoo finetune input.json --model Water --branch BRANCH" in result.stderr
    result = outcome("pull", "Water", "--branch", "H2O_GFN1-xTB")
    assert "zoo finetune input.json --model Water-H2O_GFN1-xTB.pt" in result.stderr


def test_a_file_goes_to_a_folder_as_a_link_or_stays_what_it_is(register):
    register()
    found = zoo("pull", "water", "-o", "models")
    target = Path("models/water.pt")
    assert (found["path"], found["placed"]) == (str(target), "linked")
    assert target.samefile(found["cached"])
    assert zoo("pull", "water", "-o", "models")["placed"] == "there already"
    target.unlink()
    target.write_bytes(b"mine")
    with pytest.raises(WriteError, match="another file"):
        zoo("pull", "water", "-o", "models")
    assert target.read_bytes() == b"mine"
    assert zoo("pull", "water", "-o", "models", "--force")["placed"] == "copied"
    assert target.read_bytes() == CONTENT


def test_a_file_of_the_program_is_copied_not_linked():
    found = zoo("pull", "water_tiny", "-o", ".")
    assert found["placed"] == "copied"
    assert not Path("DPA2_water_tiny.pt").samefile(BUNDLED)


def test_one_branch_is_a_model_of_its_own_and_costs_only_its_bytes(server, register):
    register()
    found = zoo("pull", "water", "--branch", "h2o_gfn2-XTB", "-o", "out")
    assert found["branch"] == "H2O_GFN2-xTB"
    assert found["received"] < found["whole_size"] == len(CONTENT)
    header = read_header(Path(found["path"]))
    assert list(header.branches) == ["Default"]
    assert zoo("list")["models"][0]["where"] == "remote"
    with pytest.raises(WriteError, match="there already"):
        zoo("pull", "water", "--branch", "h2o_gfn2-XTB", "-o", "out")


def test_a_branch_of_a_file_that_is_here_is_the_same_to_the_last_byte(server, register):
    register()
    remote = zoo("pull", "water", "--branch", "H2O_GFN1-xTB", "-o", "remote")
    zoo("pull", "water")
    local = zoo("pull", "water", "--branch", "H2O_GFN1-xTB", "-o", "local")
    assert local["received"] == 0
    assert Path(local["path"]).read_bytes() == Path(remote["path"]).read_bytes()


def test_a_branch_cannot_name_a_place_outside_the_folder(register):
    register()
    with pytest.raises(CheckpointError, match="no branch"):
        zoo("pull", "water", "--branch", "../../H2O", "-o", "out")
    assert not list(Path().rglob("*.pt"))


def test_a_dry_run_says_where_from_and_how_much_and_fetches_nothing(server, register):
    register()
    found = zoo("pull", "water", "--dry-run")
    (source,) = found["sources"]
    assert (source["size"], source["in_pieces"]) == (len(CONTENT), True)
    assert server.sent("/water.pt") == 0
    zoo("pull", "water")
    assert zoo("pull", "water", "--dry-run")["here"] is not None
    server.pages.pop("/water.pt")
    zoo("cache", "rm", "water")
    answer = zoo("pull", "water", "--dry-run", code=1)
    assert "404" in answer["sources"][0]["problem"]


def test_a_dry_run_of_a_branch_says_what_the_branch_costs(server, register):
    register()
    planned = zoo("pull", "water", "--branch", "h2o_gfn2-XTB", "--dry-run")
    assert server.sent("/water.pt") < 512_000
    found = zoo("pull", "water", "--branch", "h2o_gfn2-XTB")
    assert planned["branch"] == found["branch"] == "H2O_GFN2-xTB"
    assert planned["to_fetch"] == found["received"] < len(CONTENT)
    words = outcome("pull", "water", "--branch", "H2O_GFN2-xTB", "--dry-run")
    assert re.search(r"MB of 3\.\d MB, for the branch H2O_GFN2-xTB, would be fetched", words.stdout)
    with pytest.raises(CheckpointError, match="no branch"):
        zoo("pull", "water", "--branch", "ice", "--dry-run")


def test_a_dry_run_of_a_branch_where_no_parts_are_sent_says_so(server, register):
    register()
    server.serve("/water.pt", CONTENT, ranges=False)
    planned = zoo("pull", "water", "--branch", "H2O_GFN2-xTB", "--dry-run")
    assert planned["to_fetch"] == len(CONTENT)
    words = outcome("pull", "water", "--branch", "H2O_GFN2-xTB", "--dry-run")
    assert "the whole file" in words.stdout
    zoo("pull", "water")
    assert zoo("pull", "water", "--branch", "H2O_GFN2-xTB", "--dry-run")["to_fetch"] == 0


def test_what_a_file_says_is_read_from_the_network_without_fetching_it(server, register):
    register()
    card = zoo("show", "water", "--remote")
    assert [branch["name"] for branch in card["file"]["branches"]] == [
        "H2O_GFN1-xTB",
        "H2O_GFN2-xTB",
    ]
    assert zoo("branches", "water", "--remote")["branches"][0]["name"] == "H2O_GFN1-xTB"
    assert server.sent("/water.pt") < 512_000 < len(CONTENT)


def test_an_address_is_a_model_too(server):
    url = server.pages["/water.pt"].url
    assert zoo("branches", url)["branches"][0]["name"] == "H2O_GFN1-xTB"
    assert server.sent("/water.pt") < 512_000
    assert zoo("pull", url)["sha256"] == SHA256
    server.pages.clear()
    assert zoo("verify", url)["files"][0]["verdict"] == "first use"


def test_another_file_than_the_registry_names_is_refused(register):
    register(sha256="0" * 64)
    with pytest.raises(TransferError, match="0000"):
        zoo("pull", "water")
    assert zoo("list")["models"][0]["where"] == "remote"


def test_a_hash_that_nobody_published_is_held_fast_after_the_first_download(server, register):
    register(sha256=None)
    assert zoo("pull", "water")["sha256"] == SHA256
    assert zoo("list")["models"][0]["where"] == "cached"
    assert zoo("verify", "water")["files"][0]["verdict"] == "first use"
    assert zoo("cache", "list")["files"][0]["model"] == "Water"
    server.serve("/water.pt", CONTENT + b"x")
    zoo("cache", "rm", "water")
    with pytest.raises(TransferError, match="has changed since it was first used"):
        zoo("pull", "water")
    zoo("cache", "rm", SHA256, "--forget")
    assert zoo("pull", "water")["size"] == len(CONTENT) + 1


def test_a_superseded_file_is_refused_with_the_reason(register):
    register(sha256=None, superseded=[{"sha256": SHA256, "reason": "it could not be loaded"}])
    with pytest.raises(TransferError, match="it could not be loaded"):
        zoo("pull", "water")
    Path("old.pt").write_bytes(CONTENT)
    (file,) = zoo("verify", "old.pt", code=1)["files"]
    assert file["verdict"] == "superseded"
    assert "it could not be loaded" in file["detail"]


def test_verifying_everything_finds_the_damaged_file(register):
    register()
    cached = Path(zoo("pull", "water")["path"])
    verdicts = {file["model"]: file["verdict"] for file in zoo("verify")["files"]}
    assert verdicts == {"Water": "right", "DPA2_water_tiny": "right"}
    cached.write_bytes(CONTENT[:-1] + b"x")
    verdicts = {file["model"]: file["verdict"] for file in zoo("verify", code=1)["files"]}
    assert verdicts["Water"] == "damaged"
    assert zoo("pull", "water")["received"] == len(CONTENT)
    zoo("verify")


def test_a_file_that_no_registry_knows_is_looked_into():
    Path("own.pt").write_bytes(CONTENT + b"")
    assert zoo("verify", "own.pt")["files"][0]["model"] == "DPA2_water_tiny"
    position = CONTENT.index(b"PK\x03\x04", len(CONTENT) // 2) - 100
    Path("bad.pt").write_bytes(CONTENT[:position] + b"\x55" * 8 + CONTENT[position + 8 :])
    (file,) = zoo("verify", "bad.pt", code=1)["files"]
    assert "Bad CRC-32" in file["detail"]


@pytest.mark.parametrize(
    ("name", "content", "verdict", "detail"),
    [
        ("short.pt", CONTENT[:1000], "damaged", "truncated"),
        ("short.pth", CONTENT[:1000], "damaged", "truncated"),
        ("page.pt", b"<!DOCTYPE html>", "damaged", "web page"),
        ("empty.pt", b"", "damaged", "empty"),
        ("notes.txt", b"x", "unknown", "no registry"),
    ],
)
def test_what_a_damaged_file_is_instead_is_said(name, content, verdict, detail):
    Path(name).write_bytes(content)
    (file,) = zoo("verify", name, code=int(verdict == "damaged"))["files"]
    assert file["verdict"] == verdict
    assert detail in file["detail"]


def test_an_archive_that_is_not_of_pytorch_is_left_folded():
    with zipfile.ZipFile("notes.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10**6))
        archive.comment = b"its end is not where PyTorch has it"
    assert zoo("verify", "notes.zip")["files"][0]["verdict"] == "unknown"


def test_the_cache_is_listed_pruned_and_emptied(register):
    register()
    zoo("pull", "water")
    (file,) = zoo("cache", "list")["files"]
    assert (file["model"], file["sha256"], file["size"]) == ("Water", SHA256, len(CONTENT))
    assert zoo("cache", "path")["zoo"] == str(environment.cache_folder())
    assert zoo("cache", "prune")["paths"] == []
    assert zoo("cache", "prune", "--older-than", "1")["paths"] == []
    assert zoo("cache", "prune", "--older-than", "0", "--dry-run")["freed"] == len(CONTENT)
    assert zoo("cache", "rm", SHA256[:8])["freed"] == len(CONTENT)
    assert zoo("cache", "list")["files"] == []
    for gone in ("water", SHA256[:8]):
        with pytest.raises(RegistryError, match="cache"):
            zoo("cache", "rm", gone)
    with pytest.raises(RegistryError, match="not in the cache of zoo"):
        zoo("cache", "rm", "water_tiny")


def test_a_hub_cache_is_seen_without_its_client(register):
    source = {"kind": "huggingface", "repo": "owner/name", "path": "water.pt"}
    register(sources=[source])
    folder = environment.huggingface_cache() / "models--owner--name"
    commit = "a" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "water.pt").write_bytes(CONTENT)
    assert zoo("list")["models"][0]["where"] == "cached"
    (file,) = zoo("cache", "list")["files"]
    assert (file["cache"], file["model"]) == ("huggingface", "Water")
    with pytest.raises(RegistryError) as caught:
        zoo("cache", "rm", "water")
    assert "hf cache rm model/owner/name" in caught.value.hint


def test_a_path_is_not_fetched():
    with pytest.raises(RegistryError, match="is a path"):
        zoo("pull", "model.pt")
    result = outcome("pull", "x", "--branch", "b", "--all-branches")
    assert result.exit_code == 2


def test_offline_says_what_is_missing(register, monkeypatch):
    register()
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(TransferError, match="network"):
        zoo("pull", "water")
    with pytest.raises(TransferError, match="network"):
        zoo("pull", "water", "--branch", "H2O_GFN1-xTB")
