"""New inputs: the published sizes of DPA-2, and an input written for given data."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from schemas.input.model import Model
from schemas.input.root import normalized

Preset = Literal["small", "medium", "large"]

RCUT = 6.0
"""Cutoff of repinit in every preset, in Å."""
RCUT_INNER = 4.0
"""Cutoff of repformer and of the three-body block, in Å."""
FITTING_NET = {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1}
"""The fitting net of every preset."""

_STEP_OF_NSEL = 4


@dataclass(frozen=True, slots=True)
class Size:
    """What tells the presets apart.

    Args:
        num_layers: Layers of the repformer.
        pair_attention: Whether pairs attend to each other.
        num_steps: Steps of a new input.
        purpose: What it is good for.
    """

    num_layers: int
    pair_attention: bool
    num_steps: int
    purpose: str


SIZES: dict[str, Size] = {
    "small": Size(3, False, 100_000, "three layers without attention: fast, also on a CPU"),
    "medium": Size(6, True, 1_000_000, "six layers with attention: for a GPU"),
    "large": Size(12, True, 1_000_000, "twelve layers with attention: for a large GPU"),
}


def descriptor(preset: Preset, nsel: int, nsel_inner: int) -> dict[str, Any]:
    """Return the `descriptor` section of a preset.

    Args:
        preset: The size.
        nsel: Most neighbours within `RCUT`.
        nsel_inner: Most neighbours within `RCUT_INNER`.
    """
    size = SIZES[preset]
    inner = max(nsel_inner, _STEP_OF_NSEL)
    return {
        "type": "dpa2",
        "repinit": {
            "rcut": RCUT,
            "rcut_smth": 0.5,
            "nsel": max(nsel, inner + _STEP_OF_NSEL),  # deepmd-kit wants more than in the repformer
            "neuron": [25, 50, 100],
            "axis_neuron": 12,
            "tebd_dim": 8,
            "activation_function": "tanh",
            "use_three_body": True,
            "three_body_rcut": RCUT_INNER,
            "three_body_rcut_smth": 3.5,
            "three_body_sel": inner,
        },
        "repformer": {
            "rcut": RCUT_INNER,
            "rcut_smth": 3.5,
            "nsel": inner,
            "nlayers": size.num_layers,
            "g1_dim": 128,
            "g2_dim": 32,
            "axis_neuron": 4,
            "attn1_hidden": 128,
            "attn1_nhead": 4,
            "attn2_hidden": 32,
            "attn2_nhead": 4,
            "attn2_has_gate": True,
            "update_h2": False,
            "update_g1_has_conv": True,
            "update_g1_has_grrg": True,
            "update_g1_has_drrd": True,
            "update_g1_has_attn": False,
            "update_g2_has_g1g1": False,
            "update_g2_has_attn": size.pair_attention,
            "update_style": "res_residual",
            "update_residual": 0.01,
            "update_residual_init": "norm",
            "use_sqrt_nnei": True,
            "g1_out_conv": True,
            "g1_out_mlp": True,
        },
        "add_tebd_to_repinit_out": False,
        "precision": "float64",
        "seed": 1,
    }


_TERMS = {"energy": ("e", 0.02, 1), "force": ("f", 1000, 1), "virial": ("v", 0.02, 1)}
_START_LR = 1e-3
_START_LR_FINE_TUNING = 1e-4
_STOP_LR = 3.51e-8
_WHY_NSEL = (
    f"nsel: the most neighbours that the data have within {RCUT:g} and {RCUT_INNER:g} Å, "
    "and a tenth more."
)


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is known about the data of a task.

    Args:
        training: Paths of the training data, as given.
        validation: Paths of the validation data; empty: none.
        labels: Labels (`energy`, `force`, ...) that some of the data have.
    """

    training: list[str]
    validation: list[str]
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What the network must hold.

    Args:
        type_map: Elements.
        nsel: Most neighbours within 6 Å, with some room.
        nsel_inner: Most neighbours within 4 Å, with some room.
    """

    type_map: list[str]
    nsel: int
    nsel_inner: int


def single_task(
    network: NetworkFacts, task: TaskFacts, preset: Preset, num_steps: int
) -> dict[str, Any]:
    """Return an input for one task."""
    return {
        "_comment": f"DPA-2 {preset}: {SIZES[preset].purpose}. Paths start where zoo is started.",
        "model": {
            "_comment": _WHY_NSEL,
            "type_map": network.type_map,
            "descriptor": descriptor(preset, network.nsel, network.nsel_inner),
            "fitting_net": FITTING_NET,
        },
        "learning_rate": _learning_rate(num_steps, _START_LR),
        "loss": _loss(task.labels),
        "training": {**_data(task), **_run(num_steps)},
    }


def multi_task(
    network: NetworkFacts, tasks: Mapping[str, TaskFacts], preset: Preset, num_steps: int
) -> dict[str, Any]:
    """Return an input whose branches share the descriptor."""
    branch = {"type_map": "type_map", "descriptor": "descriptor", "fitting_net": FITTING_NET}
    return {
        "_comment": f"DPA-2 {preset}, several tasks: {SIZES[preset].purpose}. Each branch has a "
        "fitting net and an energy bias of its own; the descriptor is common to all.",
        "model": {
            "_comment": _WHY_NSEL,
            "shared_dict": {
                "type_map": network.type_map,
                "descriptor": descriptor(preset, network.nsel, network.nsel_inner),
            },
            "model_dict": dict.fromkeys(tasks, branch),
        },
        "learning_rate": _learning_rate(num_steps, _START_LR),
        "loss_dict": {name: _loss(task.labels) for name, task in tasks.items()},
        "training": {
            "_comment": "model_prob: how often each branch is trained, relative to the others.",
            "model_prob": dict.fromkeys(tasks, 1.0),
            "data_dict": {name: _data(task) for name, task in tasks.items()},
            **_run(num_steps),
        },
    }


def fine_tuning(
    model: Model, branch: str | None, file: str, task: TaskFacts, num_steps: int
) -> dict[str, Any]:
    """Return an input that fine-tunes a model.

    Args:
        model: The branch of the checkpoint.
        branch: Its name; None for a checkpoint of one task.
        file: The checkpoint.
        task: The new data.
        num_steps: Steps.
    """
    head = {} if branch is None else {"finetune_head": branch}
    return {
        "_comment": f"Fine-tunes {file}: start with --finetune {file}.",
        "model": {
            "_comment": "Networks and elements are those of the checkpoint: its weights fit no "
            "others. The energy bias is fitted to the new data.",
            "type_map": list(model.type_map),
            **head,
            "descriptor": normalized(model.descriptor),
            "fitting_net": normalized(model.fitting_net),
        },
        "learning_rate": _learning_rate(num_steps, _START_LR_FINE_TUNING),
        "loss": _loss(task.labels),
        "training": {**_data(task), **_run(num_steps)},
    }


def as_text(document: Any, indent: int = 0) -> str:
    """Return JSON for a person: a key a line, lists of plain values on one line."""
    inner = " " * (indent + 2)
    if isinstance(document, dict) and document:
        lines = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {as_text(value, indent + 2)}"
            for key, value in document.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    if isinstance(document, list) and any(isinstance(item, (dict, list)) for item in document):
        lines = [f"{inner}{as_text(item, indent + 2)}" for item in document]
        return "[\n" + ",\n".join(lines) + "\n" + " " * indent + "]"
    return json.dumps(document, ensure_ascii=False)


def _learning_rate(num_steps: int, start_lr: float) -> dict[str, Any]:
    return {
        "_comment": "Falls from start_lr to stop_lr; `zoo plan` shows when.",
        "type": "exp",
        "start_lr": start_lr,
        "stop_lr": _STOP_LR,
        "decay_steps": max(1, min(5000, num_steps // 200)),
    }


def _loss(labels: Collection[str]) -> dict[str, Any]:
    """Weight what is labelled: forces at first, all alike at the end."""
    section: dict[str, Any] = {
        "_comment": "Weights go from start_pref to limit_pref as the learning rate falls: "
        "e energy, f force, v virial (0: no data have it). Systems without a label leave its "
        "term out.",
        "type": "ener",
    }
    for label, (suffix, start, limit) in _TERMS.items():
        section[f"start_pref_{suffix}"] = start if label in labels else 0
        section[f"limit_pref_{suffix}"] = limit if label in labels else 0
    return section


def _data(task: TaskFacts) -> dict[str, Any]:
    section: dict[str, Any] = {
        "training_data": {
            "_comment": "auto: as many frames as make 32 atoms.",
            "systems": task.training,
            "batch_size": "auto",
        }
    }
    if task.validation:
        section["validation_data"] = {
            "systems": task.validation,
            "batch_size": "auto",
            "numb_btch": 4,
        }
    return section


def _run(num_steps: int) -> dict[str, Any]:
    return {
        "numb_steps": num_steps,
        "gradient_max_norm": 5.0,
        "seed": 1,
        "disp_file": "lcurve.out",
        "disp_freq": max(1, min(100, num_steps // 100)),
        "save_freq": max(1, min(2000, num_steps // 10)),
    }
