"""A good input, its data, and the commands, for the tests of this room."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result

from tests.commands import outcome
from tests.commands import zoo as run
from tests.containers import write_npy

DESCRIPTOR = {
    "type": "dpa2",
    "repinit": {"rcut": 6.0, "rcut_smth": 0.5, "nsel": 100},
    "repformer": {"rcut": 4.0, "rcut_smth": 3.5, "nsel": 40},
}
SYSTEMS = {"training_data": {"systems": ["data/water"]}}
SINGLE_TASK: dict[str, Any] = {
    "model": {"type_map": ["O", "H"], "descriptor": DESCRIPTOR, "fitting_net": {}},
    "learning_rate": {"start_lr": 0.001, "stop_lr": 3.5e-8, "decay_steps": 100},
    "loss": {},
    "training": {
        **SYSTEMS,
        "validation_data": {"systems": ["data/ice"]},
        "numb_steps": 10000,
    },
}
BRANCH = {"type_map": "elements", "descriptor": "descriptor", "fitting_net": {}}
MULTI_TASK: dict[str, Any] = {
    "model": {
        "shared_dict": {"elements": ["O", "H"], "descriptor": DESCRIPTOR},
        "model_dict": {"water": BRANCH, "salt": BRANCH},
    },
    "learning_rate": {"start_lr": 0.001, "stop_lr": 3.5e-8, "decay_steps": 100},
    "loss_dict": {"water": {}, "salt": {}},
    "training": {
        "data_dict": {
            "water": {**SYSTEMS, "validation_data": {"systems": ["data/ice"]}},
            "salt": {**SYSTEMS, "validation_data": {"systems": ["data/ice"]}},
        },
        "numb_steps": 10000,
    },
}


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return an input with values at dotted paths put in, or taken out by "<remove>"."""
    document: dict[str, Any] = json.loads(json.dumps(base))  # no part is shared
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = document
        for key in parents:
            section = section.setdefault(key, {})
        if value == "<remove>":
            del section[last]
        else:
            section[last] = value
    return document


def write_system(folder: Path, frames: int = 3) -> None:
    """Write a system of one water molecule."""
    molecule = [0.0, 0.0, 0.0, 0.96, 0.0, 0.0, -0.24, 0.93, 0.0]
    rng = np.random.default_rng(len(folder.name))
    arrays = {
        "coord": molecule + rng.normal(0, 0.02, (frames, 9)),
        "force": rng.normal(0, 1, (frames, 9)),
        "box": np.tile(np.eye(3).ravel() * 12.0, (frames, 1)),
        "energy": rng.normal(-400, 0.1, frames),
    }
    write_npy(folder, arrays, [0, 1, 1])


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, caches and settings of its own, and the network allowed."""
    for name in ("ZOO_CACHE", "ZOO_CONFIG", "HF_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    for name in ("ZOO_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def add_registry(own_folders: Path, tmp_path: Path) -> Callable[..., Result]:
    """Adds a registry `mine` with models that are changed from a good one."""

    def add(*models: dict[str, Any]) -> Result:
        base = {
            "description": "Water.",
            "family": "DPA-2",
            "trainable": True,
            "file": {"name": "m.pt", "sources": [{"kind": "file", "path": "m.pt"}]},
        }
        path = tmp_path / "mine" / "registry.yaml"
        path.parent.mkdir(exist_ok=True)
        document = {"version": 1, "models": [base | model for model in models]}
        path.write_text(yaml.safe_dump(document))
        return run("registry", "add", path)

    return add


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data."""
    for name in ("water", "ice"):
        write_system(tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def zoo(workspace: Path) -> Callable[..., Any]:
    """Runs a command line."""
    return outcome


@pytest.fixture
def good() -> dict[str, Any]:
    return copy.deepcopy(SINGLE_TASK)


@pytest.fixture
def example() -> Callable[[str, dict[str, Any]], str]:
    """Returns the text of a good input with changes."""
    bases = {"single-task": SINGLE_TASK, "multi-task": MULTI_TASK}
    return lambda base, changes: json.dumps(changed(bases[base], changes), indent=2)
