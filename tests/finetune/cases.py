"""Fine-tunings of the golden multi-task model, the same for deepmd-kit and for us.

All but those that really train have a learning rate of next to nothing, so that the checkpoint
after one step shows what the fine-tuning started from.
"""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "multitask" / "model.pt"
_INPUT = json.loads((GOLDEN / "multitask" / "input.json").read_text())

CASES: dict[str, dict[str, Any]] = {
    "copied": {"branch": "scan", "steps": 4},
    "random": {"branch": "RANDOM", "steps": 4},
    "alias": {"branch": "H2O-PBE"},
    "reordered": {"branch": "metal", "type_map": ["O", "Cu", "H"]},
    "subset": {"branch": "metal", "type_map": ["O", "H"]},
    "superset": {"branch": "pbe", "type_map": ["H", "Li", "O"]},
    "new_in_data": {"branch": "pbe", "type_map": ["O", "Li", "C", "H"], "symbols": ["Li", "H"]},
    "new_random": {
        "branch": "RANDOM",
        "type_map": ["O", "Li", "C", "H"],
        "symbols": ["Li", "H"],
    },
    "branches": {"heads": {"pbe": None, "fresh": "scan", "random": "RANDOM"}},
}


def case_input(name: str) -> dict[str, Any]:
    """Return the input of a case; its data lie in the folder `data`."""
    case = CASES[name]
    return _several(case) if "heads" in case else _single(case)


def write_data(name: str, folder: Path) -> None:
    """Write the folder `data`; a case may call its elements otherwise."""
    system = folder / "data" / "five"
    shutil.copytree(GOLDEN / "training" / "data" / "five", system)
    if "symbols" in CASES[name]:
        (system / "type_map.raw").write_text("\n".join(CASES[name]["symbols"]) + "\n")


def _common(steps: int | None) -> dict[str, Any]:
    rates = {"start_lr": 5e-3, "stop_lr": 1e-4} if steps else {"start_lr": 1e-30, "stop_lr": 1e-31}
    return {
        "learning_rate": {"type": "exp", **rates, "decay_steps": 1},
        "training": {
            "numb_steps": steps or 1,
            "seed": 10,
            "disp_file": "lcurve.out",
            "disp_freq": 10,
            "save_freq": 10,
        },
    }


def _single(case: dict[str, Any]) -> dict[str, Any]:
    # the branch `pbe` by default: `scan` and `metal` differ from it in the fitting net or the seed
    shared, branches = _INPUT["model"]["shared_dict"], _INPUT["model"]["model_dict"]
    name = case["branch"] if case["branch"] in branches else "pbe"
    model = {
        "type_map": case.get("type_map", shared["elements"]),
        "descriptor": copy.deepcopy(shared["surroundings"]),
        "fitting_net": copy.deepcopy(branches[name]["fitting_net"]),
    }
    document = _common(case.get("steps"))
    document["model"] = model
    document["loss"] = _INPUT["loss_dict"]["pbe"]
    document["training"]["training_data"] = {"systems": ["data/five"], "batch_size": 5}
    return document


def _several(case: dict[str, Any]) -> dict[str, Any]:
    fittings = {name: b["fitting_net"] for name, b in _INPUT["model"]["model_dict"].items()}
    branches = {}
    for name, head in case["heads"].items():
        branches[name] = {
            "type_map": "elements",
            "descriptor": "surroundings",
            "fitting_net": fittings.get(head or name, fittings["pbe"]),
        }
        if head is not None:
            branches[name]["finetune_head"] = head
    document = _common(None)
    document["model"] = {"shared_dict": _INPUT["model"]["shared_dict"], "model_dict": branches}
    document["loss_dict"] = dict.fromkeys(branches, _INPUT["loss_dict"]["pbe"])
    data = {"training_data": {"systems": ["data/five"], "batch_size": 5}}
    document["training"] |= {
        "data_dict": dict.fromkeys(branches, data),
        "model_prob": dict.fromkeys(branches, 1),
    }
    return copy.deepcopy(document)
