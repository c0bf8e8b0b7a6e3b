"""Checkpoints are read without torch, without running code, from any random-access reader."""

import contextlib
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.base.errors import CheckpointError
from schemas.checkpoint.archive import LocalFile, locate
from schemas.checkpoint.header import read_header

PREFIX = "model.Default.atomic_model"


@pytest.fixture
def state():
    """A state dict with shared storage, a view, an empty tensor and several types."""
    shared = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    tensors = OrderedDict(
        {
            f"{PREFIX}.matrix": shared,
            f"{PREFIX}.row": shared[1],
            f"{PREFIX}.transposed": shared.t(),
            f"{PREFIX}.single": torch.nn.Parameter(torch.ones(2, 3)),
            f"{PREFIX}.counts": torch.tensor([1, 2, 3]),
            f"{PREFIX}.empty": torch.zeros(0, dtype=torch.float64),
            f"{PREFIX}.flag": torch.tensor(True),
        }
    )
    tensors["_extra_state"] = {
        "model_params": {"type_map": ["O", "H"], "descriptor": {"type": "dpa2"}, "x": None},
        "train_infos": {"lr": 1e-3, "step": 7},
    }
    return tensors


@pytest.fixture
def saved(state, tmp_path) -> Path:
    path = tmp_path / "model.pt"
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3}]}
    torch.save({"model": state, "optimizer": optimizer}, path)
    return path


def test_the_header_says_what_torch_says(saved, state):
    header = read_header(saved)
    assert header.model_params == state["_extra_state"]["model_params"]
    assert header.train_infos == {"lr": 1e-3, "step": 7}
    assert header.steps == 8
    assert header.has_optimizer
    assert list(header.branches) == ["Default"]
    expected = {name: value for name, value in state.items() if name != "_extra_state"}
    assert list(header.tensors) == list(expected)
    for name, tensor in expected.items():
        entry = header.tensors[name]
        assert entry.shape == tuple(tensor.shape)
        assert entry.strides == tuple(tensor.stride())
        assert f"torch.{entry.dtype}" == str(tensor.dtype)
        assert entry.num_bytes == tensor.numel() * tensor.element_size()
        assert entry.branch == "Default"


def test_numbers_are_where_the_header_says(saved, state):
    header = read_header(saved)
    with LocalFile(saved) as file:
        for name, entry in header.tensors.items():
            if not entry.num_bytes or "transposed" in name:
                continue
            start = locate(file, header.storages[entry.storage]) + entry.offset
            numbers = np.frombuffer(file.read_at(start, entry.num_bytes), entry.dtype)
            assert np.array_equal(numbers.reshape(entry.shape), state[name].detach().numpy())


def test_shared_tensors_have_one_storage(saved):
    tensors = read_header(saved).tensors
    assert tensors[f"{PREFIX}.matrix"].storage == tensors[f"{PREFIX}.row"].storage
    assert tensors[f"{PREFIX}.matrix"].storage != tensors[f"{PREFIX}.single"].storage


def test_a_bare_state_dict_is_a_checkpoint_too(state, tmp_path):
    torch.save(state, tmp_path / "bare.pt")
    header = read_header(tmp_path / "bare.pt")
    assert not header.has_optimizer
    assert header.steps == 8


def test_branches_have_their_model_sections(state, tmp_path):
    state["_extra_state"]["model_params"] = {"model_dict": {"a": {"x": 1}, "b": {}}}
    torch.save({"model": state}, tmp_path / "multi.pt")
    assert read_header(tmp_path / "multi.pt").branches == {"a": {"x": 1}, "b": {}}


def test_only_the_end_and_the_description_are_read(state, tmp_path):
    state[f"{PREFIX}.large"] = torch.zeros(500_000, dtype=torch.float64)
    path = tmp_path / "large.pt"
    torch.save({"model": state}, path)

    remote = InMemory(path.read_bytes())
    assert f"{PREFIX}.large" in read_header(remote).tensors
    assert remote.transferred < remote.size / 10


class InMemory:
    """A checkpoint in memory as a random-access reader."""

    name = "memory.pt"

    def __init__(self, content):
        self.content, self.size, self.transferred = content, len(content), 0

    def read_at(self, offset, length):
        found = self.content[offset : offset + length]
        self.transferred += len(found)
        return found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404 Not Found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b'{"model": {}}', "JSON"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"something else", "not a PyTorch checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_named(content, words, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_header(path)
    assert caught.value.hint


@pytest.mark.parametrize("length", [100, 1000, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_said_to_be_truncated(saved, length):
    content = saved.read_bytes()
    saved.write_bytes(content[: length if isinstance(length, int) else int(len(content) * length)])
    with pytest.raises(CheckpointError, match="truncated"):
        read_header(saved)


def test_a_frozen_model_is_said_to_be_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="frozen model"):
        read_header(tmp_path / "model.pth")


def test_another_pytorch_file_is_said_to_lack_a_model(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="its keys are weights"):
        read_header(tmp_path / "other.pt")


def write_archive(path: Path, description: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", description)


@pytest.mark.parametrize(
    "description",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"garbage",
        b"\x80\x02)R.",
        b"\x80\x02]q\x00h\x05.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02(X\x01\x00\x00\x00atQ.",
        b"\x80\x02ccollections\nOrderedDict\n)R}b.",
        b"\x80\x02K\x01r\xff\xff\xff\xff.",
    ],
)
def test_a_damaged_description_is_an_error_of_ours(description, tmp_path):
    write_archive(tmp_path / "damaged.pt", description)
    with pytest.raises(CheckpointError):
        read_header(tmp_path / "damaged.pt")


def test_flipped_bytes_never_end_in_another_error(saved):
    content = saved.read_bytes()
    generator = np.random.default_rng(1)
    for _ in range(200):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), 3):
            damaged[position] = generator.integers(0, 256)
        with contextlib.suppress(CheckpointError):
            read_header(InMemory(bytes(damaged)))
