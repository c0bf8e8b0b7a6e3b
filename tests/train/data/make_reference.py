"""Writes the reference numbers beside this file; run it with deepmd-kit 3.2.0.

    python make_reference.py

schedule.json: learning rates; loss.json: losses and displayed errors of random predictions;
statistics.json: davg, dstd and energy bias of random structures.
"""

import json
import random
import warnings
from pathlib import Path

import numpy as np
import torch
from deepmd.dpmodel.utils.learning_rate import BaseLR
from deepmd.pt.loss.ener import EnergyStdLoss
from deepmd.pt.model.model import get_model

HERE = Path(__file__).parent


def schedules():
    common = {"start_lr": 1e-3, "stop_lr": 1e-7}
    cases = [
        {"type": "exp", **common, "decay_steps": 10},
        {"type": "exp", **common, "decay_steps": 5000},
        {"type": "exp", **common, "decay_steps": 7, "smooth": True, "warmup_steps": 5},
        {"type": "exp", **common, "decay_steps": 7, "decay_rate": 0.9},
        {"type": "exp", "start_lr": 3e-4, "stop_lr_ratio": 0.01, "decay_steps": 3},
        {"type": "cosine", **common},
        {"type": "cosine", **common, "warmup_ratio": 0.13, "warmup_start_factor": 0.1},
        *(
            {
                "type": "wsd",
                **common,
                "decay_type": kind,
                "decay_phase_ratio": 0.37,
                "warmup_steps": 4,
            }
            for kind in ("inverse_linear", "cosine", "linear")
        ),
    ]
    found = []
    for case in cases:
        for num_steps in (10, 150, 20000):
            schedule = BaseLR(**case, num_steps=num_steps)
            steps = sorted({0, 1, 4, 5, 9, num_steps // 3, num_steps - 1, num_steps})
            found.append(
                {
                    "config": case,
                    "num_steps": num_steps,
                    "steps": steps,
                    "values": [schedule.value(step) for step in steps],
                }
            )
    return found


def losses():
    random.seed(3)
    found = []
    for number in range(60):
        config = {
            "relative_f": random.choice([None, None, 0.3]),
            "enable_atom_ener_coeff": random.random() < 0.3,
            "numb_generalized_coord": 2,
            "loss_func": random.choice(["mse", "mae"]),
            "use_huber": random.random() < 0.3,
            "huber_delta": random.choice([0.01, 0.5, [0.1, 0.7, 0.2]]),
            "f_use_norm": random.random() < 0.3,
            "use_default_pf": random.random() < 0.3,
            "intensive_ener_virial": random.random() < 0.5,
        }
        for term in ("e", "f", "v", "ae", "pf", "gf"):
            config[f"start_pref_{term}"] = random.choice([0.0, 0.02, 100.0])
            config[f"limit_pref_{term}"] = random.choice([1.0, 0.1])
        try:
            loss = EnergyStdLoss(starter_learning_rate=1e-3, **config)
        except RuntimeError:
            continue
        F, N = 2, 4
        generator = torch.Generator().manual_seed(number)

        def draw(*shape, generator=generator):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        atype = torch.tensor([[0, 1, 1, -1], [1, 0, 0, 0]])
        prediction = {
            "energy": draw(F, 1),
            "force": draw(F, N, 3),
            "virial": draw(F, 9),
            "atom_energy": draw(F, N, 1),
        }
        label = {
            "energy": draw(F, 1),
            "force": draw(F, N, 3),
            "virial": draw(F, 9),
            "atom_ener": draw(F, N, 1),
            "atom_ener_coeff": draw(F, N, 1),
            "drdq": draw(F, N * 6),
            "atom_pref": draw(F, N).abs().repeat_interleave(3, dim=1),
        }
        present = {name: random.random() < 0.85 for name in label}
        present["atom_ener_coeff"] = True
        if not present["atom_pref"]:
            label["atom_pref"] = torch.ones(F, N * 3, dtype=torch.float64)
        label |= {f"find_{name}": float(value) for name, value in present.items()}
        rate = 10 ** random.uniform(-5, -3)
        _, total, shown = loss({"atype": atype}, lambda p=prediction, **_: dict(p), label, N, rate)
        found.append(
            {
                "config": config,
                "seed": number,
                "learning_rate": rate,
                "present": present,
                "total": float(total),
                "metrics": {k: float(v) for k, v in shown.items() if "l2_" not in k},
            }
        )
    return found


def statistics():
    rng = np.random.default_rng(7)
    model = json.loads((HERE / "model.json").read_text())
    systems = []
    for num_atoms, num_frames in ((6, 3), (9, 2)):
        types = rng.integers(0, 2, num_atoms)
        grid = np.stack(np.meshgrid(*[np.arange(3) * 1.6] * 3), -1).reshape(-1, 3)[:num_atoms]
        systems.append(
            {
                "types": types.tolist(),
                "coord": (grid + rng.normal(0, 0.1, (num_frames, num_atoms, 3))).round(6).tolist(),
                "box": (np.eye(3) * 4.8 + rng.normal(0, 0.1, (3, 3))).round(6).tolist(),
                "energy": rng.normal(-5, 2, num_frames).round(6).tolist(),
            }
        )
    net = get_model(json.loads(json.dumps(model)))
    sampled = []
    for system in systems:
        F = len(system["energy"])
        types = torch.tensor(system["types"])
        counts = [len(types), len(types), int((types == 0).sum()), int((types == 1).sum())]
        sampled.append(
            {
                "coord": torch.tensor(system["coord"], dtype=torch.float64),
                "atype": types.repeat(F, 1),
                "box": torch.tensor(system["box"], dtype=torch.float64).reshape(1, 9).repeat(F, 1),
                "energy": torch.tensor(system["energy"], dtype=torch.float64)[:, None],
                "find_energy": np.float32(1.0),
                "natoms": torch.tensor(counts).repeat(F, 1),
            }
        )
    net.atomic_model.compute_or_load_stat(lambda: sampled)
    state = net.state_dict()
    prefix = "atomic_model.descriptor."
    blocks = {
        name: {
            "mean": state[f"{prefix}{name}.mean"][:, 0].tolist(),
            "stddev": state[f"{prefix}{name}.stddev"][:, 0].tolist(),
        }
        for name in ("repinit", "repinit_three_body", "repformers")
    }
    return {
        "systems": systems,
        "blocks": blocks,
        "out_bias": state["atomic_model.out_bias"].reshape(-1).tolist(),
        "out_std": state["atomic_model.out_std"].reshape(-1).tolist(),
    }


warnings.simplefilter("ignore")
for name, make in (("schedule", schedules), ("loss", losses), ("statistics", statistics)):
    (HERE / f"{name}.json").write_text(json.dumps(make()) + "\n")
