"""A multi-task checkpoint with as many branches as the published ones, random weights."""

from pathlib import Path
from typing import Any

import torch

from dpa2.formats.checkpoint import write_checkpoint
from dpa2.formats.weights import deepmd_parameters, to_deepmd_state
from dpa2.model.build import build_model, share
from schemas.input.model import parse_model
from schemas.input.root import Link, normalized

ELEMENTS = ["H", "C", "N", "O", "F", "P", "S", "Cl"]


def write_many_branches(path: Path, branches: int, *, large: bool, average: bool = False) -> None:
    """Write a training checkpoint in deepmd-kit's layout, the optimiser's state included.

    Args:
        path: The file.
        branches: How many; they share the descriptor and have fitting nets of their own.
        large: Widths of the published DPA-2 medium; else a few hundred numbers a branch.
        average: An exponential moving average of every weight stands behind the weights.
    """
    torch.manual_seed(1)
    sections = {f"branch_{i:02d}": _section(i, large=large) for i in range(branches)}
    models = {name: build_model(parse_model(section)) for name, section in sections.items()}
    first = next(iter(models))
    share(models, [Link("all", "descriptor", name, 0, first) for name in models])
    with torch.no_grad():
        for name, model in models.items():
            for parameter in model.parameters():
                if name == first or not parameter.any():
                    parameter.normal_(0.0, 0.1)
    known: dict[Any, Any] = {}
    tensors = {name: to_deepmd_state(model, known) for name, model in models.items()}
    parameters = [p for _, _, p in deepmd_parameters(*models.values()) if p is not None]
    state = {
        number: {
            "step": torch.tensor(1000.0),
            "exp_avg": torch.randn_like(parameter),
            "exp_avg_sq": torch.rand_like(parameter),
        }
        for number, parameter in enumerate(parameters)
    }
    flat = {f"model.{b}.{key}": t.clone() for b, part in tensors.items() for key, t in part.items()}
    write_checkpoint(
        path,
        tensors=tensors,
        model_params={"shared_dict": {}, "model_dict": sections},
        step=999,
        learning_rate=1e-4,
        optimizer={"state": state, "param_groups": [{"lr": 1e-4, "params": list(state)}]},
        ema={"decay": 0.999, "model": flat, "validation_state": {}} if average else None,
    )


def _section(number: int, *, large: bool) -> dict[str, Any]:
    repinit: dict[str, Any] = {"rcut": 6.0, "rcut_smth": 0.5, "nsel": 120, "tebd_dim": 8}
    repinit |= {"neuron": [25, 50, 100] if large else [2, 4, 8], "axis_neuron": 12 if large else 2}
    repinit |= {"use_three_body": True, "three_body_neuron": [2, 4, 8]}
    repinit |= {"three_body_sel": 40, "three_body_rcut": 4.0, "three_body_rcut_smth": 3.5}
    repformer: dict[str, Any] = {"rcut": 4.0, "rcut_smth": 3.5, "nsel": 40, "nlayers": 6}
    repformer |= {"g1_dim": 128 if large else 4, "g2_dim": 32 if large else 4, "axis_neuron": 4}
    repformer |= {"attn2_hidden": 32 if large else 4, "attn2_nhead": 4, "update_g1_has_attn": False}
    repformer |= {
        "attn1_hidden": 128 if large else 4,
        "attn1_nhead": 4,
        "update_g2_has_g1g1": False,
    }
    repformer |= {"update_style": "res_residual", "update_residual": 0.01}
    descriptor = {"type": "dpa2", "repinit": repinit, "repformer": repformer, "seed": 1}
    fitting = {"neuron": [240, 240, 240] if large else [8, 8], "seed": 100 + number}
    section = {"type_map": ELEMENTS, "descriptor": descriptor, "fitting_net": fitting}
    return {**normalized(parse_model(section)), "model_branch_alias": [f"alias-{number}"]}
