"""Multi-task inputs over tiny systems, for the tests and for recording deepmd-kit's numbers."""

import copy
import json
from pathlib import Path

import numpy as np

from tests.containers import write_npy

MODEL = json.loads((Path(__file__).parent / "data" / "model.json").read_text())

LOSS = {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1}
CASES = ("descriptor", "type_embedding", "fitting", "one_owner_later")


def write_system(folder, num_atoms, num_frames, seed, parameters=False):
    """Write a deepmd/npy system of jittered lattice points with smooth, learnable labels."""
    rng = np.random.default_rng(seed)
    types = np.arange(num_atoms) % 2
    lattice = np.stack(np.meshgrid(*[np.arange(2) * 2.0] * 3), -1).reshape(-1, 3)[:num_atoms]
    shift = rng.normal(0, 0.15, (num_frames, num_atoms, 3))
    arrays = {
        "coord": lattice + shift,
        "box": np.tile(np.eye(3) * 4.0, (num_frames, 1, 1)),
        "energy": 2.0 * np.square(shift).sum((1, 2)) - 3.0 * num_atoms,
        "force": -4.0 * shift,
    }
    if parameters:
        arrays["fparam"] = rng.normal(1.0, 2.0, (num_frames, 2))
        arrays["aparam"] = rng.normal(-1.0, 0.5, (num_frames, num_atoms))
    write_npy(folder, arrays, types)


def write_systems(folder):
    """Write the systems of all branches: `a` (two of them), `b`, `v`."""
    write_system(folder / "a1", 6, 5, seed=1, parameters=True)
    write_system(folder / "a2", 8, 3, seed=2, parameters=True)
    write_system(folder / "b", 8, 4, seed=3, parameters=True)
    write_system(folder / "v", 8, 2, seed=4, parameters=True)


def multitask_input(case):
    """Return a complete input with the branches `second` and `first`, in this order."""
    descriptor = copy.deepcopy(MODEL["descriptor"])
    descriptor["add_tebd_to_repinit_out"] = True
    fitting = {**copy.deepcopy(MODEL["fitting_net"]), "numb_fparam": 2, "numb_aparam": 1}
    branches = {
        name: {
            "type_map": "elements",
            "descriptor": "surroundings",
            "fitting_net": {**fitting, "seed": seed},
            "data_stat_nbatch": 20,
        }
        for name, seed in (("second", 5), ("first", 6))
    }
    shared = {"elements": ["O", "H"], "surroundings": descriptor}
    if case == "type_embedding":
        branches["first"]["descriptor"] = "surroundings:1"
    if case == "one_owner_later":
        branches["second"]["descriptor"] = "surroundings:1"
    if case == "fitting":
        shared["head"] = {**fitting, "dim_case_embd": 3, "seed": 7}
        for branch in branches.values():
            branch["fitting_net"] = "head"
    return {
        "model": {"shared_dict": shared, "model_dict": branches},
        "learning_rate": {"start_lr": 1e-30, "stop_lr": 1e-31, "decay_steps": 1},
        "loss_dict": {"second": LOSS, "first": LOSS},
        "training": {
            "model_prob": {"second": 1.0, "first": 3.0},
            "data_dict": {
                "second": {"training_data": {"systems": ["a1", "a2"], "batch_size": 2}},
                "first": {
                    "training_data": {"systems": ["b"], "batch_size": 2},
                    "validation_data": {"systems": ["v"], "batch_size": 1},
                },
            },
            "numb_steps": 1,
            "seed": 7,
            "disp_freq": 1,
            "save_freq": 1,
        },
    }
