"""Train tiny models with deepmd-kit 3.2.0; run it with deepmd-kit's own Python.

    <python with deepmd-kit 3.2.0> tests/golden/make_training_golden.py [RUN ...]

Batches hold whole data sets, so results do not depend on the order in which frames are drawn
(but for the order of summation).
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
from cases import CASES, Section
from packing import packed
from training_data import write_all

FOLDER = Path(__file__).parent / "training"


def tiny_model(*, davg: bool = False) -> Section:
    """Return a model section; with `davg` also frame and atomic parameters."""
    section = copy.deepcopy(CASES["medium"].model_section())
    section["data_stat_nbatch"] = 50
    if davg:
        section["descriptor"]["repinit"]["set_davg_zero"] = False
        section["descriptor"]["repformer"]["set_davg_zero"] = False
        section["fitting_net"] |= {"numb_fparam": 2, "numb_aparam": 1}
    return section


def run_input(system: str, batch: int, steps: int, **sections: Any) -> Section:
    """Return an input file; `sections` replace parts of the default one."""
    training = {
        "training_data": {"systems": [f"data/{system}"], "batch_size": batch},
        "numb_steps": steps,
        "seed": 10,
        "disp_file": "lcurve.out",
        "disp_freq": 1,
        "save_freq": 100,
    }
    return {
        "model": sections.get("model", tiny_model()),
        "learning_rate": sections.get(
            "learning_rate", {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 5}
        ),
        "optimizer": sections.get("optimizer", {"type": "Adam"}),
        "loss": {
            "type": "ener",
            "start_pref_e": 0.2,
            "limit_pref_e": 1,
            "start_pref_f": 100,
            "limit_pref_f": 1,
            "start_pref_v": 0.5,
            "limit_pref_v": 1,
        }
        | sections.get("loss", {}),
        "training": training | sections.get("training", {}),
    }


ATOM_TERMS = {
    "start_pref_ae": 2,
    "limit_pref_ae": 1,
    "start_pref_pf": 10,
    "limit_pref_pf": 1,
}

# run -> (input file, run that the weights come from)
RUNS: dict[str, tuple[Section, str | None]] = {
    "statistics": (run_input("five", 5, 1), None),
    "statistics_davg_parameters": (run_input("five", 5, 1, model=tiny_model(davg=True)), None),
    "statistics_mixed": (run_input("mixed", 3, 1), None),
    "adam": (run_input("one", 1, 10, training={"gradient_max_norm": 5.0}), "statistics"),
    "adamw_huber": (
        run_input(
            "five",
            5,
            6,
            optimizer={"type": "AdamW", "weight_decay": 0.05, "adam_beta1": 0.8},
            learning_rate={
                "type": "cosine",
                "start_lr": 2e-3,
                "stop_lr": 1e-5,
                "warmup_steps": 2,
                "warmup_start_factor": 0.1,
            },
            loss={"use_huber": True, "huber_delta": [0.05, 0.2, 0.1]},
        ),
        "statistics",
    ),
    "mae_atom_terms": (
        run_input(
            "five",
            5,
            6,
            learning_rate={
                "type": "wsd",
                "start_lr": 1e-3,
                "stop_lr": 1e-4,
                "decay_phase_ratio": 0.5,
            },
            loss={"loss_func": "mae", "f_use_norm": True, **ATOM_TERMS},
            training={"validation_data": {"systems": ["data/one"], "batch_size": 1}},
        ),
        "statistics",
    ),
    "every_mse_term": (
        run_input(
            "five",
            5,
            6,
            loss={
                "enable_atom_ener_coeff": True,
                "intensive_ener_virial": True,
                "relative_f": 0.5,
                "start_pref_gf": 0.3,
                "limit_pref_gf": 1,
                "numb_generalized_coord": 2,
                **ATOM_TERMS,
            },
        ),
        "statistics",
    ),
    "davg_parameters": (
        run_input("five", 5, 6, model=tiny_model(davg=True)),
        "statistics_davg_parameters",
    ),
    "mixed": (run_input("mixed", 3, 6), "statistics_mixed"),
}


def train(name: str, config: Section, start: str | None) -> None:
    """Run `dp train` in a scratch folder and keep input, learning curve and checkpoint."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.json").write_text(json.dumps(config, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(FOLDER / "data", Path(scratch) / "data")
        for path in Path(scratch).rglob("atom_pref.npy"):
            # The format has one value per atom; training in 3.2.0 only works with three.
            np.save(path, np.repeat(np.load(path), 3, axis=1))
        command = [sys.executable, "-m", "deepmd", "--pt", "train", str(folder / "input.json")]
        command += ["--skip-neighbor-stat"]
        if start is not None:
            # deepmd-kit insists on an optimiser section, which it then does not use.
            weights = torch.load(FOLDER / start / "model.pt", weights_only=True)
            torch.save({"optimizer": {}} | weights, Path(scratch) / "start.pt")
            command += ["--init-model", "start.pt"]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=scratch, check=True, env=environment)
        shutil.copy(Path(scratch) / "lcurve.out", folder)
        checkpoint = torch.load(Path(scratch) / "model.ckpt.pt", weights_only=True)
        if name != "adam":
            del checkpoint["optimizer"]
        torch.save(packed(checkpoint), folder / "model.pt")


def main() -> None:
    """Write the data and the runs named on the command line, or all of them."""
    write_all(FOLDER / "data")
    for name in sys.argv[1:] or RUNS:
        train(name, *RUNS[name])


if __name__ == "__main__":
    main()
