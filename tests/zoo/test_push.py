"""Pushing through the real client of huggingface_hub to a loopback hub."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from schemas.base.errors import CheckpointError, ConfigError, TransferError
from schemas.lock import Lock, LockedData, LockedInput, LockedResult
from tests.commands import document
from tests.zoo.hubs.fake_hubs import Repository
from zoo.push import prepare, push

FILE = Path(__file__).parents[2] / "zoo" / "models" / "DPA2_water_tiny.pt"
CONTENT = FILE.read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


# huggingface_hub 2.4 itself uploads in a way that its HTTP client deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def model(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "water.pt").write_bytes(CONTENT)
    return tmp_path / "run" / "water.pt"


def lock_of(sha256):
    return Lock(
        command=["train", "input.json"],
        made_with={"torch": "2.13.0"},
        input=LockedInput(path="input.json", sha256="a" * 64, content={"model": {"k": 5}}),
        seeds={"training.seed": 1},
        data=[
            LockedData(
                section="training.training_data",
                path="data/w",
                systems=1,
                frames=80,
                sha256="b" * 64,
            )
        ],
        result=LockedResult(path="water.pt", sha256=sha256),
    )


def test_a_pushed_model_is_on_the_hub_with_its_card(hub, model):
    address = push(prepare(model, "me/water", licence="CC-BY-4.0"))
    assert address.startswith(f"{hub.url}/me/water/commit/")
    repository = hub.repositories["me/water"]
    assert repository.files["water.pt"] == CONTENT
    assert not repository.private
    card = repository.files["README.md"].decode()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "cc-by-4.0"
    assert "dpa2" in header["tags"]
    for text in ("zoo pull hf://me/water/water.pt", SHA256, "H2O_GFN1-xTB", "s41524-024-01493-2"):
        assert text in card
    assert hub.storage.asked("PUT")
    assert hub.token not in str([request.headers for request in hub.storage.requests])


def test_a_new_repository_can_be_private_and_have_a_branch(hub, model):
    push(prepare(model, "me/water", revision="v2"), private=True)
    repository = hub.repositories["me/water"]
    assert repository.private
    assert "v2" in repository.revisions
    assert hub.asked("POST", "/commit/v2")
    assert "hf://me/water@v2/water.pt" in repository.files["README.md"].decode()


def test_a_lock_file_beside_the_model_is_added_to_a_repository_that_is_there(hub, model):
    hub.repositories["me/water"] = Repository({"notes.md": b"x"})
    (model.parent / "zoo.lock").write_text(lock_of(SHA256).model_dump_json())
    push(prepare(model, "me/water"))
    files = hub.repositories["me/water"].files
    assert set(files) == {"notes.md", "README.md", "water.pt", "zoo.lock"}
    assert json.loads(files["zoo.lock"])["data"][0]["frames"] == 80
    card = files["README.md"].decode()
    assert "Made with torch 2.13.0: `zoo train input.json`" in card
    assert f"| `data/w` | 1 | 80 | `{'b' * 64}` |" in card
    assert '"k": 5' in card


def test_a_lock_file_of_another_model_is_not_sent(model):
    (model.parent / "zoo.lock").write_text(lock_of("c" * 64).model_dump_json())
    with pytest.raises(ConfigError, match="lock file of another checkpoint"):
        prepare(model, "me/water")


def test_metrics_and_input_stand_in_the_card(model, tmp_path):
    (tmp_path / "test.json").write_text(
        json.dumps({"ok": True, "total": {"force": {"rmse": 0.25}}})
    )
    (tmp_path / "run.json").write_text(json.dumps({"training": {"numb_steps": 7}}))
    upload = prepare(
        model, "me/water", metrics=tmp_path / "test.json", training_input=tmp_path / "run.json"
    )
    assert sorted(upload.files) == ["README.md", "input.json", "metrics.json", "water.pt"]
    assert "| total.force.rmse | 0.25 |" in upload.files["README.md"]
    assert '"numb_steps": 7' in upload.files["README.md"]


@pytest.mark.parametrize("repo", ["water", "me/water/x", "/water", "me/", "me/wa ter", "../water"])
def test_what_is_no_repository_is_refused_before_anything_is_asked(hub, model, repo):
    with pytest.raises(ConfigError, match="not the name of a repository"):
        prepare(model, repo)


def test_what_is_no_model_is_refused_before_anything_is_asked(hub, tmp_path):
    (tmp_path / "m.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(CheckpointError):
        prepare(tmp_path / "m.pt", "me/water")


def test_without_a_token_nothing_is_asked(hub, model, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(TransferError, match="does not know who you are") as caught:
        push(prepare(model, "me/water"))
    assert "hf auth login" in caught.value.hint
    assert not hub.requests


def test_a_token_that_may_not_write_is_said_in_a_sentence(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(TransferError) as caught:
        push(prepare(model, "me/water"))
    assert "hf_expired" not in caught.value.message
    assert "HF_TOKEN" in caught.value.hint


def test_a_hub_in_the_clear_gets_no_token(hub, model, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example")
    with pytest.raises(TransferError, match="plain http"):
        push(prepare(model, "me/water"))


def test_a_dry_run_writes_the_card_and_sends_nothing(hub, model, tmp_path):
    card = tmp_path / "card.md"
    told = document("push", model, "me/water", "--dry-run", "--card", card)
    assert told["pushed"] is False
    assert told["files"]["water.pt"] == len(CONTENT)
    assert told["files"]["README.md"] == card.stat().st_size
    assert not hub.requests
