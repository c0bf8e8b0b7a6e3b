"""What the tests of this folder share."""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from dpa2.evaluate.potential import Potential, load
from dpa2.formats.conversion import freeze
from dpa2.interfaces import simulation
from tests.evaluate.conftest import GOLDEN, write_system
from tests.strangers.runs import small_input
from tests.strangers.simulations import Md, load_once, water_of
from tests.train.multitask_cases import write_system as write_training_system


@pytest.fixture
def one_thread():
    """Let torch compute in one thread, so that sums are in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def place(here: Path) -> Path:
    """The current folder with a model, labelled data, a structure and an input."""
    shutil.copy(GOLDEN / "small" / "model.pt", here)
    with np.load(GOLDEN / "small" / "expected.npz") as frames:
        write_system(here / "data", dict(frames))
    ase.io.write("water.xyz", Atoms("OHH", np.eye(3) * 2, cell=[9] * 3, pbc=True))
    Path("input.json").write_text(json.dumps(small_input("data")))
    return here


@pytest.fixture
def config(here: Path, one_thread: None) -> dict:
    """The input of a run of four steps on the system `a`, in a folder of its own."""
    write_training_system(here / "a", 6, 5, seed=1)
    document = small_input("a")
    Path("input.json").write_text(json.dumps(document))
    return document


@pytest.fixture(scope="session")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Frozen models: one without parameters, one that takes 2 of a frame and 1 of atoms."""
    folder = tmp_path_factory.mktemp("frozen")
    return {
        name: freeze(GOLDEN / name / "model.pt", folder / f"{name}.pth").path
        for name in ("small", "fparam_aparam")
    }


@pytest.fixture(scope="session")
def potential() -> Potential:
    """A small model of water."""
    return load(GOLDEN / "small" / "model.pt")


@pytest.fixture(scope="session")
def frames() -> dict[str, np.ndarray]:
    """What deepmd-kit makes of four water molecules in a small cell."""
    with np.load(GOLDEN / "small" / "expected.npz") as archive:
        return dict(archive)


@pytest.fixture
def water() -> Atoms:
    """Four water molecules in a small cell."""
    return water_of()


@pytest.fixture
def md(frozen: dict[str, Path], here: Path, monkeypatch: pytest.MonkeyPatch) -> Md:
    """Writes simulations."""
    monkeypatch.setattr(simulation, "load", load_once)
    return Md(here / "md", frozen)
