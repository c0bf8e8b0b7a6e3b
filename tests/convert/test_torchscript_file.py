"""Weights out of frozen models: nothing in them is called, nothing strange is opened."""

import json
import zipfile

import pytest
import torch

from dpa2.formats.conversion import convert
from dpa2.formats.torchscript import declare_operators, read_torchscript
from schemas.base.errors import CheckpointError
from tests.convert.test_dictionary import HERE
from tests.golden_cases import GOLDEN, assert_checkpoint_numbers


class Loud(torch.nn.Module):
    """A module whose methods fail when called."""

    model_def_script: str

    def __init__(self, text: str) -> None:
        super().__init__()
        self.model_def_script = text
        self.register_buffer("weight", torch.ones(2))

    def forward(self) -> torch.Tensor:
        raise RuntimeError("called")

    @torch.jit.export
    def get_model_def_script(self) -> str:
        raise RuntimeError("called")


class RunsOnLoading(torch.nn.Module):
    """A module that TorchScript runs a method of while opening the file."""

    def __init__(self) -> None:
        super().__init__()
        self.state = 1
        self.training = False

    @torch.jit.export
    def __getstate__(self) -> int:
        return self.state

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        raise RuntimeError("ran")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class CallsDeepmd(torch.nn.Module):
    """A module that names the operators of deepmd-kit's C++ library."""

    model_def_script: str

    def __init__(self) -> None:
        super().__init__()
        self.model_def_script = "{}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.ops.deepmd.tabulate_fusion_se_t_tebd(x, x, x, x, 1)[0]
        return first + torch.ops.deepmd.tabulate_fusion_se_atten(x, x, x, x, x, 1, True)[0]


class Holder(torch.nn.Module):
    """A module around another one, without a section."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone_model = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone_model(x)


def save(module, path):
    torch.jit.save(torch.jit.script(module), path)
    return path


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A frozen golden model."""
    path = tmp_path_factory.mktemp("frozen") / "medium.pth"
    convert(GOLDEN / "medium" / "model.pt", path)
    return path


def test_a_frozen_model_gives_its_weights_back(frozen, tmp_path):
    assert_checkpoint_numbers(convert(frozen, tmp_path / "back.pt").path, "medium")


def test_the_way_a_model_came_is_in_the_file(frozen, tmp_path):
    convert(frozen, tmp_path / "second.pth")
    _, _, history = read_torchscript(tmp_path / "second.pth")
    assert [step["source"] for step in history] == ["model.pt", "medium.pth"]
    assert all(len(step["sha256"]) == 64 for step in history)
    assert {step["software"] for step in history} == {"dpa-zoo"}


def test_no_method_is_called(tmp_path):
    path = save(Loud(json.dumps({"descriptor": {}})), tmp_path / "x.pth")
    section, state, history = read_torchscript(path)
    assert section == {"descriptor": {}}
    assert list(state) == ["weight"]
    assert history == []


def test_operators_of_deepmd_are_declared(tmp_path):
    declare_operators()
    path = save(CallsDeepmd(), tmp_path / "x.pth")
    assert read_torchscript(path)[0] == {}


def packed(frozen, path):
    """Write a zip archive of something else."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


REFUSED = [
    *((lambda _, path, x=x: save(Loud(x), path), "does not describe") for x in ("", "[1]", "{")),
    *(
        (
            lambda frozen, path, n=n: path.write_bytes(frozen.read_bytes()[:n]),
            "is truncated|is empty",
        )
        for n in (0, 10, 5000)
    ),
    (lambda _, path: save(Holder(), path), "a spin model"),
    (lambda _, path: save(RunsOnLoading(), path), "__setstate__"),
    (packed, "no frozen model"),
]


@pytest.mark.parametrize(("write", "words"), REFUSED)
def test_what_is_no_frozen_model_is_refused(write, words, frozen, tmp_path):
    write(frozen, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=words):
        read_torchscript(tmp_path / "x.pth")


def test_what_deepmd_froze_is_read_without_running_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", None)
    back = convert(HERE / "data" / "small.pth", tmp_path / "back.pt").path
    assert_checkpoint_numbers(back, "small")
