"""Compress golden cases with deepmd-kit 3.2.0; run it with deepmd-kit's own Python.

    <python with deepmd-kit 3.2.0> tests/golden/make_compressed.py

Tables are coarse and short, so that their errors count, and pairs lie beyond both of their parts.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from deepmd.pt.model.model import get_model
from make_golden import FOLDER, evaluate

CASES = ("davg_strip", "strip_one_side", "davg_strip_not_smooth")
STEP, EXTRAPOLATE, SHORTEST = 0.1, 2, 3.0
INPUTS = ("coord", "box", "atype")


def read_case(name: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the model of a case, and its structure."""
    state = torch.load(FOLDER / name / "model.pt", weights_only=False)["model"]
    params = state.pop("_extra_state")["model_params"]
    model = get_model(json.loads(json.dumps(params))).cpu()
    model.load_state_dict({key.replace("model.Default.", ""): state[key] for key in state})
    arrays = dict(np.load(FOLDER / name / "expected.npz"))
    return model.eval(), {key: arrays[key] for key in INPUTS}


def make(name: str) -> None:
    """Write the tables of one case, and what the compressed model computes."""
    model, inputs = read_case(name)
    exact = evaluate(model, inputs)
    model.min_nbor_dist = torch.tensor(SHORTEST, dtype=torch.float64)
    model.enable_compression(EXTRAPOLATE, STEP, 10 * STEP)
    found = evaluate(model, inputs)
    state = model.state_dict()
    named = (key for key in state if "compress_" in key or "type_embd_data" in key)
    tables = {key: state[key].numpy() for key in named if state[key].numel()}
    np.savez_compressed(FOLDER / "compressed" / f"{name}.npz", **tables, **inputs, **found)
    wrong = np.abs(found["force"] - exact["force"]).max()
    info = next(value for key, value in tables.items() if "compress_info" in key)
    sys.stdout.write(f"{name}: {info}, forces differ from the network's by {wrong:.2g} eV/A\n")


if __name__ == "__main__":
    (FOLDER / "compressed").mkdir(exist_ok=True)
    for case in CASES:
        make(case)
