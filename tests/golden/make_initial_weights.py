"""Record deepmd-kit 3.2.0's initial weights as hashes; run it with deepmd-kit's own Python.

<python with deepmd-kit 3.2.0> tests/golden/make_initial_weights.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from cases import CASES
from deepmd.pt.model.model import get_model
from deepmd.pt.train.wrapper import ModelWrapper
from make_golden import normalized_model

PREFIX = "model.Default."


def published_small(descriptor_seed: int, fitting_seed: int) -> dict[str, Any]:
    """Return a model of the published sizes, whose layers have the published dimensions."""
    section = CASES["medium"].model_section()
    descriptor = section["descriptor"]
    descriptor["repinit"] |= {
        "nsel": 120,
        "neuron": [25, 50, 100],
        "axis_neuron": 12,
        "tebd_dim": 8,
        "three_body_neuron": [2, 4, 8],
        "three_body_sel": 48,
    }
    descriptor["repformer"] |= {
        "nsel": 48,
        "nlayers": 3,
        "g1_dim": 128,
        "g2_dim": 32,
        "axis_neuron": 4,
        "attn2_hidden": 32,
        "attn2_nhead": 4,
    }
    descriptor["seed"] = descriptor_seed
    section["fitting_net"] |= {"neuron": [240, 240, 240], "seed": fitting_seed}
    return section


def reseeded(name: str, descriptor_seed: int, fitting_seed: int) -> dict[str, Any]:
    """Return the model section of a golden case with other seeds."""
    section = CASES[name].model_section()
    section["descriptor"]["seed"] = descriptor_seed
    section["fitting_net"]["seed"] = fitting_seed
    return section


def sections() -> dict[str, dict[str, Any]]:
    """Return the models to record."""
    strip = reseeded("resnet_dt_strip", 0, 3141592653)
    strip["descriptor"] |= {
        "use_econf_tebd": True,
        "use_tebd_bias": True,
        "add_tebd_to_repinit_out": True,
    }
    return {
        "published sizes": published_small(1, 1),
        "every update": reseeded("every_update_res_residual", 2026, 7),
        "strip, time steps, electron configuration": strip,
        "constant residual, float32": {
            **reseeded("residual_const", 11, 12),
            "fitting_net": CASES["float32"].model_section()["fitting_net"],
        },
    }


def fingerprint(tensor: torch.Tensor) -> dict[str, Any]:
    """Return shape, dtype, hash of the bytes (C order, little endian) and the first values."""
    array = tensor.detach().cpu().contiguous().numpy()
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        "first": array.ravel()[:2].tolist(),
    }


def one_line_a_tensor(recorded: dict[str, Any]) -> str:
    """Format the document so that a changed tensor is a changed line."""
    models = []
    for name, entry in recorded.items():
        rows = [f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in entry["tensors"].items()]
        model = json.dumps(entry["model"])
        models.append(
            f' {json.dumps(name)}: {{\n "model": {model},\n "tensors": {{\n'
            + ",\n".join(rows)
            + "\n }}"
        )
    return "{\n" + ",\n".join(models) + "\n}\n"


def main() -> None:
    """Write `initial_weights.json`."""
    recorded = {}
    for name, section in sections().items():
        model = get_model(normalized_model(section))
        state = ModelWrapper(model).state_dict()
        tensors = {
            key.removeprefix(PREFIX): fingerprint(value)
            for key, value in state.items()
            if isinstance(value, torch.Tensor) and "._networks." not in key and value.numel()
        }
        recorded[name] = {"model": section, "tensors": tensors}
    Path(__file__).with_name("initial_weights.json").write_text(one_line_a_tensor(recorded))


if __name__ == "__main__":
    main()
