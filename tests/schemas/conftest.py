"""An input on a made-up system of 32 water molecules, and what the checks say about it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.check.input_file import check_text
from schemas.check.report import Report
from tests.containers import write_npy

WATER: dict[str, Any] = {
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "dpa2",
            "repinit": {
                "rcut": 6.0,
                "rcut_smth": 0.5,
                "nsel": 100,
                "neuron": [8, 16, 32],
                "axis_neuron": 4,
                "use_three_body": True,
                "three_body_rcut": 4.0,
                "three_body_rcut_smth": 3.0,
                "three_body_sel": 40,
            },
            "repformer": {
                "rcut": 4.0,
                "rcut_smth": 3.0,
                "nsel": 40,
                "nlayers": 2,
                "g1_dim": 16,
                "g2_dim": 8,
                "axis_neuron": 2,
                "update_g1_has_attn": False,
                "update_g2_has_g1g1": False,
            },
            "precision": "float64",
            "seed": 1,
        },
        "fitting_net": {"neuron": [24, 24], "seed": 1},
        "_comment": "made up",
    },
    "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-6, "decay_steps": 100},
    "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
    "training": {
        "training_data": {"systems": ["data/a", "data/b"], "batch_size": 1},
        "validation_data": {"systems": "data/c"},
        "numb_steps": 10000,
        "seed": 10,
    },
}
REMOVED = object()


def write_system(folder: Path, *, names: str = "O H", frames: int = 3) -> None:
    """Write a system of one water molecule."""
    columns = {"coord": 9, "force": 9, "box": 9, "energy": 1}
    arrays = {name: np.zeros((frames, width)) for name, width in columns.items()}
    write_npy(folder, arrays, [0, 1, 1], names)


def changed(changes: dict[str, Any], base: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the input with values at dotted paths replaced, added or removed."""
    document = copy.deepcopy(WATER if base is None else base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = document
        for key in parents:
            section = section.setdefault(key, {})
        if value is REMOVED or value == "<remove>":
            del section[last]
        else:
            section[last] = value
    return document


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a", "b", "c"):
        write_system(tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def water() -> dict[str, Any]:
    return copy.deepcopy(WATER)


@pytest.fixture
def with_changes() -> Callable[..., dict[str, Any]]:
    return changed


@pytest.fixture
def removed() -> object:
    return REMOVED


@pytest.fixture
def check(workspace: Path) -> Callable[..., Report]:
    def run(changes: dict[str, Any] | None = None, overrides: tuple[str, ...] = ()) -> Report:
        return check_text(json.dumps(changed(changes or {}), indent=2), "input.json", overrides)

    return run


@pytest.fixture
def faults(check: Callable[..., Report]) -> Callable[..., list[tuple[str, str, str]]]:
    """Severity, code and dotted path of every diagnostic of a changed input."""

    def run(changes: dict[str, Any], overrides: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
        report = check(changes, overrides)
        return [
            (item.severity, item.code, ".".join(str(part) for part in item.path))
            for item in report.diagnostics
        ]

    return run


@pytest.fixture
def make_system() -> Callable[..., None]:
    return write_system
