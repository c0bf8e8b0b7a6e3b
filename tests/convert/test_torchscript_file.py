"""Weights out of frozen models: nothing in them is called, nothing strange is opened."""

import json
import zipfile

import numpy as np
import pytest
import torch

import dpa2
from dpa2.formats.conversion import convert
from dpa2.formats.torchscript import declare_operators, read_torchscript
from schemas.base.errors import CheckpointError
from tests.convert.test_dictionary import GOLDEN, HERE


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
    convert(frozen, tmp_path / "back.pt")
    with np.load(GOLDEN / "medium" / "expected.npz") as expected:
        found = dpa2.load(tmp_path / "back.pt").predict(
            expected["coord"], expected["box"], expected["atype"]
        )
        np.testing.assert_allclose(found.energy, expected["energy"].ravel(), atol=1e-10, rtol=0)


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


class Holder(torch.nn.Module):
    """A module around another one, without a section."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone_model = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone_model(x)


def test_a_model_that_holds_others_is_refused_by_its_name(tmp_path):
    with pytest.raises(CheckpointError, match="a spin model"):
        read_torchscript(save(Holder(), tmp_path / "spin.pth"))


def test_code_that_would_run_on_opening_is_refused(tmp_path):
    path = save(RunsOnLoading(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="__setstate__"):
        read_torchscript(path)


def test_operators_of_deepmd_are_declared(tmp_path):
    declare_operators()
    path = save(CallsDeepmd(), tmp_path / "x.pth")
    assert read_torchscript(path)[0] == {}


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_frozen_module_that_is_no_potential_is_refused(text, tmp_path):
    path = save(Loud(text), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="does not describe a deep potential"):
        read_torchscript(path)


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_frozen_model_cut_short_is_refused(size, frozen, tmp_path):
    (tmp_path / "x.pth").write_bytes(frozen.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"is truncated|is empty"):
        read_torchscript(tmp_path / "x.pth")


def test_a_zip_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(CheckpointError, match="no frozen model"):
        read_torchscript(tmp_path / "x.pth")


def test_what_deepmd_froze_is_read_without_running_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", None)
    convert(HERE / "data" / "small.pth", tmp_path / "back.pt")
    with np.load(GOLDEN / "small" / "expected.npz") as expected:
        found = dpa2.load(tmp_path / "back.pt").predict(
            expected["coord"], expected["box"], expected["atype"]
        )
        np.testing.assert_allclose(found.energy, expected["energy"].ravel(), atol=1e-10, rtol=0)
        np.testing.assert_allclose(found.force, expected["force"], atol=1e-10, rtol=0)
