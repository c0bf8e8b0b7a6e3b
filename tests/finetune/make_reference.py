"""Fine-tune with deepmd-kit 3.2.0; run it with deepmd-kit's own Python.

    <python with deepmd-kit 3.2.0> tests/finetune/make_reference.py

`data/CASE.npz` holds the tensors of the checkpoint after the last step: all of them where the case
trains, else those that depend on the types or the data.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from cases import CASES, MODEL, case_input, write_data

HERE = Path(__file__).parent
OF_TYPES = ("out_bias", "out_std", "bias_atom_e", "mean", "stddev", "embedding_net.layers.0.matrix")


def record(name: str) -> dict[str, np.ndarray]:
    """Run one case in a scratch folder."""
    case = CASES[name]
    steps = case.get("steps", 1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_data(name, folder)
        (folder / "input.json").write_text(json.dumps(case_input(name)))
        program = Path(sys.executable).with_name("dp")
        command = [program, "--pt", "train", "input.json", "--skip-neighbor-stat"]
        command += ["--finetune", MODEL.resolve()]
        if "branch" in case:
            command += ["--model-branch", case["branch"]]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=folder, check=True, env=environment)
        content = torch.load(folder / f"model.ckpt-{steps}.pt", weights_only=True)
    kept = {}
    for key, tensor in content["model"].items():
        if key == "_extra_state" or "._networks." in key or not tensor.numel():
            continue
        if "steps" in case or key.endswith(OF_TYPES):
            array = tensor.numpy()
            # statistics repeat over the slots of neighbours
            kept[key] = array[:, :1] if key.endswith(("mean", "stddev")) else array
    return kept


def main() -> None:
    """Run every case, or those named on the command line."""
    for name in sys.argv[1:] or CASES:
        np.savez_compressed(HERE / "data" / f"{name}.npz", **record(name))
    size = sum(file.stat().st_size for file in (HERE / "data").iterdir())
    sys.stdout.write(f"finetune: {size} B\n")


if __name__ == "__main__":
    main()
