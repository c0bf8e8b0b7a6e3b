"""A checkpoint as safetensors and back: every tensor, every name, every word of the model."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dpa2.formats.checkpoint import read_checkpoint
from schemas.base.errors import CheckpointError, ConversionError
from schemas.checkpoint.header import read_header
from tests.commands import document, outcome
from zoo.safetensors_file import from_safetensors, to_safetensors

GOLDEN = Path(__file__).parents[1] / "golden"


def assert_same(one: Path, other: Path) -> None:
    first, second = read_checkpoint(one), read_checkpoint(other)
    assert list(first.tensors) == list(second.tensors)
    assert first.model_params == second.model_params
    assert (first.step, first.learning_rate) == (second.step, second.learning_rate)
    for name, tensor in first.tensors.items():
        assert tensor.dtype == second.tensors[name].dtype
        assert tensor.shape == second.tensors[name].shape
        same = tensor.contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(same, second.tensors[name].contiguous().reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("case", ["small", "multitask", "float32", "bfloat16", "davg"])
def test_what_is_written_comes_back_bit_by_bit(case, tmp_path):
    source = GOLDEN / case / "model.pt"
    to_safetensors(source, tmp_path / "model.safetensors")
    from_safetensors(tmp_path / "model.safetensors", tmp_path / "back.pt")
    assert_same(source, tmp_path / "back.pt")


def test_the_package_reads_every_tensor(tmp_path):
    source = GOLDEN / "bfloat16" / "model.pt"
    to_safetensors(source, tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    tensors = read_checkpoint(source).tensors
    assert stored
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in stored.items())
    with safe_open(tmp_path / "model.safetensors", framework="pt") as content:
        names = json.loads(content.metadata()["dpa_zoo"])["names"]
    assert list(names) == list(tensors)
    assert set(names.values()) == set(stored)


def write(path: Path, tensors: dict) -> Path:
    extra = {"model_params": {"type_map": ["O"], "x": 0.1}, "train_infos": {"lr": 1e-3, "step": 7}}
    torch.save({"model": {"_extra_state": extra, **tensors}}, path)
    return path


def test_scalars_empty_views_and_shared_tensors(tmp_path):
    whole = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    tensors = {
        "model.Default.scalar": torch.tensor(2.5),
        "model.Default.empty": torch.zeros(0, 3),
        "model.Default.flag": torch.tensor(True),
        "model.Default.whole": whole,
        "model.Default.twin": whole,
        "model.Default.turned": whole.t(),
        "model.Default.row": whole[1],
        "model.Default.repeated": torch.ones(1, dtype=torch.float64).expand(5),
    }
    source = write(tmp_path / "model.pt", tensors)
    to_safetensors(source, tmp_path / "m.safetensors")
    from_safetensors(tmp_path / "m.safetensors", tmp_path / "back.pt")
    assert_same(source, tmp_path / "back.pt")
    back = read_header(tmp_path / "back.pt").tensors
    assert back["model.Default.whole"].storage == back["model.Default.twin"].storage
    assert "model.Default.twin" not in load_file(tmp_path / "m.safetensors")


def test_equal_content_gives_equal_bytes(tmp_path):
    source = GOLDEN / "small" / "model.pt"
    for name in ("one", "two"):
        to_safetensors(source, tmp_path / f"{name}.safetensors")
        from_safetensors(tmp_path / f"{name}.safetensors", tmp_path / f"{name}.pt")
    for suffix in ("safetensors", "pt"):
        one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_what_json_cannot_say_is_refused(tmp_path):
    extra = {"model_params": {"type_map": ("O",)}, "train_infos": {}}
    torch.save({"model": {"_extra_state": extra}}, tmp_path / "model.pt")
    with pytest.raises(ConversionError, match="tuple"):
        to_safetensors(tmp_path / "model.pt", tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def framed(header: dict, numbers: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


EMPTY = {"extra": {"model_params": {}}, "format": "dpa-zoo checkpoint 1"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no safetensors file"),
        (b"\xff" * 100, "no safetensors file"),
        (struct.pack("<Q", 2**60), "no safetensors file"),
        (framed({"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}), "no safetensors"),
        (framed({}), "says nothing of the model"),
        (framed({"__metadata__": {"dpa_zoo": "[" * 100_000}}), "says nothing of the model"),
        (framed({"__metadata__": {"dpa_zoo": "{}"}}), "says nothing of the model"),
        (framed({"__metadata__": {"dpa_zoo": json.dumps(EMPTY)}}), "says nothing of the model"),
        (
            framed({"__metadata__": {"dpa_zoo": json.dumps({**EMPTY, "names": {"a": "b"}})}}),
            "lacks the tensor `b`",
        ),
    ],
)
def test_other_files_are_refused(content, words, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        from_safetensors(tmp_path / "m.safetensors", tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_the_command_goes_both_ways(tmp_path):
    there, back = tmp_path / "m.safetensors", tmp_path / "back.pt"
    source = GOLDEN / "multitask" / "model.pt"
    first = document("export", source, "--safetensors", "-o", there)
    assert first["tensors"] == len(read_header(source).tensors)
    assert outcome("export", there, "-o", back).exit_code == 0
    assert_same(source, back)
    assert outcome("export", there, "-o", back).exit_code != 0
    assert outcome("export", there, "-o", back, "--force").exit_code == 0
    assert outcome("export", there, "--safetensors", "-o", back, "-f").exit_code != 0
