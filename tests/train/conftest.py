import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(__file__).parent / "data"


def write_system(folder, num_atoms, num_frames, seed):
    """Write a deepmd/npy system of jittered lattice points with smooth, learnable labels."""
    rng = np.random.default_rng(seed)
    (folder / "set.000").mkdir(parents=True)
    types = np.arange(num_atoms) % 2
    (folder / "type.raw").write_text("\n".join(map(str, types)) + "\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    lattice = np.stack(np.meshgrid(*[np.arange(2) * 2.0] * 3), -1).reshape(-1, 3)[:num_atoms]
    shift = rng.normal(0, 0.15, (num_frames, num_atoms, 3))
    arrays = {
        "coord": lattice + shift,
        "box": np.tile(np.eye(3) * 4.0, (num_frames, 1, 1)),
        "energy": 2.0 * np.square(shift).sum((1, 2)) - 3.0 * num_atoms,
        "force": -4.0 * shift,
    }
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(num_frames, -1))


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
        "loss": {
            "start_pref_e": 0.02,
            "limit_pref_e": 1,
            "start_pref_f": 1000,
            "limit_pref_f": 1,
        },
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
