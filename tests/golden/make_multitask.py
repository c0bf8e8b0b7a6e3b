"""Train a tiny multi-task model with deepmd-kit 3.2.0; run it with deepmd-kit's own Python.

    <python with deepmd-kit 3.2.0> tests/golden/make_multitask.py

Two branches share a descriptor, a third has its own. `multitask/heads.npz` holds what each head
says (`DeepPot(head=...)`) about the frames of `training/data/five`.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES
from deepmd.infer import DeepPot
from packing import packed

FOLDER = Path(__file__).parent
NUM_STEPS = 20


def model_section() -> dict[str, Any]:
    """Return the `model` section: branches `pbe` and `scan` share, `metal` stands alone."""
    one = CASES["medium"].model_section()
    own = copy.deepcopy(one["descriptor"]) | {"seed": 5}
    fitting = one["fitting_net"]
    return {
        "shared_dict": {"elements": one["type_map"], "surroundings": one["descriptor"]},
        "model_dict": {
            "pbe": {
                "type_map": "elements",
                "descriptor": "surroundings",
                "fitting_net": fitting,
                "model_branch_alias": ["water", "H2O-PBE"],
            },
            "scan": {
                "type_map": "elements",
                "descriptor": "surroundings",
                "fitting_net": fitting | {"neuron": [5, 5, 5], "seed": 31},
            },
            "metal": {
                "type_map": ["H", "O", "Cu"],
                "descriptor": own,
                "fitting_net": fitting | {"seed": 32},
                "model_branch_alias": ["copper"],
            },
        },
    }


def input_file() -> dict[str, Any]:
    """Return deepmd-kit's input."""
    loss = {"type": "ener", "start_pref_e": 1, "limit_pref_e": 1}
    loss |= {"start_pref_f": 100, "limit_pref_f": 1, "start_pref_v": 0, "limit_pref_v": 0}
    systems = {"pbe": "data/five", "scan": "data/one", "metal": "data/one"}
    return {
        "model": model_section(),
        "learning_rate": {"type": "exp", "start_lr": 5e-3, "stop_lr": 1e-4, "decay_steps": 5},
        "loss_dict": dict.fromkeys(systems, loss),
        "training": {
            "data_dict": {
                branch: {"training_data": {"systems": [system], "batch_size": 1}}
                for branch, system in systems.items()
            },
            "model_prob": {"pbe": 2, "scan": 1, "metal": 1},
            "numb_steps": NUM_STEPS,
            "seed": 10,
            "disp_file": "lcurve.out",
            "disp_freq": 10,
            "save_freq": NUM_STEPS,
        },
    }


def main() -> None:
    """Train, evaluate every head, and write the folder `multitask`."""
    target = FOLDER / "multitask"
    target.mkdir(exist_ok=True)
    document = input_file()
    (target / "input.json").write_text(json.dumps(document, indent=1) + "\n")
    five = FOLDER / "training" / "data" / "five"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(FOLDER / "training" / "data", folder / "data")
        (folder / "input.json").write_text(json.dumps(document))
        program = Path(sys.executable).with_name("dp")
        command = [program, "--pt", "train", "input.json", "--skip-neighbor-stat"]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=folder, check=True, env=environment)
        checkpoint = folder / f"model.ckpt-{NUM_STEPS}.pt"
        content = torch.load(checkpoint, weights_only=True, map_location="cpu")
        torch.save(packed({"model": content["model"]}), target / "model.pt")
        arrays = {key: np.load(five / "set.000" / f"{key}.npy") for key in ("coord", "box")}
        symbols = (five / "type_map.raw").read_text().split()
        kinds = np.loadtxt(five / "type.raw", dtype=int, ndmin=1)
        found: dict[str, Any] = {}
        for head in model_section()["model_dict"]:
            potential = DeepPot(str(checkpoint), head=head)
            atype = [potential.get_type_map().index(symbols[kind]) for kind in kinds]
            energy, force, virial = potential.eval(arrays["coord"], arrays["box"], atype)
            found |= {f"{head}.energy": energy, f"{head}.force": force, f"{head}.virial": virial}
    np.savez_compressed(target / "heads.npz", **found)
    size = sum(file.stat().st_size for file in target.iterdir())
    sys.stdout.write(f"multitask: {size} B\n")


if __name__ == "__main__":
    main()
