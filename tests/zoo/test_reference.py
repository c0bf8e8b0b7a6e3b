"""References to models: what people write, and what is refused."""

from pathlib import Path

import pytest

from schemas.base.errors import RegistryError
from zoo.resolve import Address, HubPath, LocalPath, ModelName, parse_reference


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("DPA2_medium", ModelName("DPA2_medium")),
        ("DPA-2.4-7M", ModelName("DPA-2.4-7M")),
        ("DPA4-Air-OMat24@v20260704", ModelName("DPA4-Air-OMat24", "v20260704")),
        ("hf://owner/name/a.pt", HubPath("huggingface", "owner/name", "a.pt")),
        ("hf://owner/name@v1/x/a.pt", HubPath("huggingface", "owner/name", "x/a.pt", "v1")),
        ("HF://o/n@refs%2Fpr%2F1/a.pt", HubPath("huggingface", "o/n", "a.pt", "refs/pr/1")),
        ("ms://owner/name@master/a.pt", HubPath("modelscope", "owner/name", "a.pt", "master")),
        ("https://example.org/a.pt?x=1", Address("https://example.org/a.pt?x=1")),
        ("http://127.0.0.1:8000/a.pt", Address("http://127.0.0.1:8000/a.pt")),
        ("http://[::1]:8000/a.pt", Address("http://[::1]:8000/a.pt")),
        ("model.ckpt.pt", LocalPath(Path("model.ckpt.pt"))),
        ("./DPA2_medium", LocalPath(Path("DPA2_medium"))),
        ("runs/DPA2_medium", LocalPath(Path("runs/DPA2_medium"))),
        ("/models/x@y", LocalPath(Path("/models/x@y"))),
        ("missing.pth", LocalPath(Path("missing.pth"))),
    ],
)
def test_what_people_write_is_understood(text, meant):
    assert parse_reference(text) == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither a file nor a name"),
        (" ", "neither a file nor a name"),
        ("a@b@c", "neither a file nor a name"),
        ("@v1", "neither a file nor a name"),
        ("hf://name/a.pt", "not a file on Hugging Face"),
        ("hf://owner/name", "not a file on Hugging Face"),
        ("hf://owner/name@v1", "not a file on Hugging Face"),
        ("hf://owner/name/../../a.pt", "not a file on Hugging Face"),
        ("hf://../name/a.pt", "not a file on Hugging Face"),
        ("ms://owner/name/", "not a file on ModelScope"),
        ("ftp://example.org/a.pt", "ftp://"),
        ("s3://bucket/a.pt", "s3://"),
        ("https://example.org", "names no file"),
        ("https:///a.pt", "names no file"),
        ("https://[::1/a.pt", "not an address"),
        ("http://example.org/a.pt", "not encrypted"),
        ("http://127.0.0.1.example.org/a.pt", "not encrypted"),
    ],
)
def test_what_cannot_be_meant_says_why(text, says):
    with pytest.raises(RegistryError, match=says) as caught:
        parse_reference(text)
    assert caught.value.message


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(RegistryError) as caught:
        parse_reference("https://me:secret@example.org/a.pt")
    assert "secret" not in caught.value.message + (caught.value.hint or "")


def test_an_existing_file_is_never_taken_for_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DPA2_water_tiny", "DPA2_water_tiny@v1"):
        Path(name).write_bytes(b"")
        assert parse_reference(name) == LocalPath(Path(name))
    # deepmd-kit lets the suffix be left out
    Path("DPA2_medium.pt").write_bytes(b"")
    assert parse_reference("DPA2_medium") == LocalPath(Path("DPA2_medium"))


def test_a_name_longer_than_any_file_is_a_name():
    assert parse_reference("x" * 5000) == ModelName("x" * 5000)
