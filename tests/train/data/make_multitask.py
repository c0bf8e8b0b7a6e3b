"""Record what deepmd-kit 3.2.0 makes of shared parts; run it with deepmd-kit's own Python.

<python with deepmd-kit 3.2.0> tests/train/data/make_multitask.py

For each case: the statistics of every branch, the keys that share storage, the number of parameters
that the optimiser counts, and the header of the learning curve, all after one step whose learning
rate is next to nothing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from tests.train.multitask_cases import CASES, multitask_input, write_systems  # noqa: E402

KEPT = ("mean", "stddev", "out_bias", "case_embd", "_avg", "_inv_std")


def record(case: str) -> dict:
    """Run one case in a scratch folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_systems(folder)
        (folder / "input.json").write_text(json.dumps(multitask_input(case)))
        command = [sys.executable, "-m", "deepmd", "--pt", "train", "input.json"]
        subprocess.run([*command, "--skip-neighbor-stat"], cwd=folder, check=True)
        content = torch.load(folder / "model.ckpt-1.pt", weights_only=True)
        header = (folder / "lcurve.out").read_text().splitlines()[0]
    tensors = {k: v for k, v in content["model"].items() if k != "_extra_state"}
    storage: dict[int, list[str]] = {}
    for key, value in tensors.items():
        if value.numel():
            storage.setdefault(value.untyped_storage().data_ptr(), []).append(key)
    return {
        # every slot of a neighbour list has the same statistics
        "statistics": {
            key: (value[:, 0] if value.ndim == 3 and "descriptor" in key else value).tolist()
            for key, value in tensors.items()
            if key.endswith(KEPT)
        },
        "shared": sorted(keys for keys in storage.values() if len(keys) > 1),
        "num_parameters": len(content["optimizer"]["param_groups"][0]["params"]),
        "header": header,
    }


if __name__ == "__main__":
    found = {case: record(case) for case in CASES}
    text = json.dumps(found, separators=(",", ":")).replace('},"', '},\n"')
    (HERE / "multitask.json").write_text(text + "\n")
