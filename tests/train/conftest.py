import copy
import json
from pathlib import Path

import pytest

from tests.train.multitask_cases import LOSS, write_system

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def model_section():
    return json.loads((DATA / "model.json").read_text())


@pytest.fixture
def tiny_input(tmp_path, monkeypatch, model_section):
    """A complete input whose two training systems lie in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_system(tmp_path / "a", 6, 5, seed=1)
    write_system(tmp_path / "b", 8, 3, seed=2)
    write_system(tmp_path / "v", 8, 2, seed=3)
    return {
        "model": copy.deepcopy(model_section),
        "learning_rate": {"type": "exp", "start_lr": 5e-3, "stop_lr": 1e-4, "decay_steps": 1},
        "loss": dict(LOSS),
        "training": {
            "training_data": {"systems": ["a", "b"], "batch_size": 2},
            "validation_data": {"systems": ["v"], "batch_size": 2},
            "numb_steps": 4,
            "seed": 7,
            "disp_freq": 2,
            "save_freq": 2,
            "gradient_max_norm": 5.0,
            "enable_ema": True,
        },
    }
