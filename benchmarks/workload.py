"""What is timed: the published small and medium DPA-2 on boxes of water.

Both sides import this; it needs numpy only.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NUM_LAYERS = {"small": 3, "medium": 6}
MOLECULES_PER_EDGE = 4
BOX_EDGE = 12.42
"""Å; 64 molecules at the density of water."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpa-zoo"


@dataclass(frozen=True)
class Work:
    """What a worker repeats, and on what.

    Attributes:
        what: `infer` (energy, forces and virial from numpy arrays, neighbour search included),
            `train` (a step: forward pass, forces, loss, backward pass, Adam), or a limit of the
            machine: `product` (of two matrices 2048 x 2048), `stream` (a + 3 b of 64 MB each).
        model: `small` or `medium`.
        layers: Of the repformer; 0: as published.
        precision: `float64` or `float32`.
        copies: Of the box along every edge.
        frames: In one call.
        threads: Of the process.
        device: `cpu` or `cuda`.
        once: Too large to be repeated: only a small system warms up, and one call is timed.
    """

    what: str = "infer"
    model: str = "medium"
    layers: int = 0
    precision: str = "float64"
    copies: int = 1
    frames: int = 1
    threads: int = 2
    device: str = "cpu"
    once: bool = False

    @property
    def is_limit(self) -> bool:
        """Whether it is a limit of the machine: no model."""
        return self.what in ("product", "stream")

    @property
    def folder(self) -> Path:
        """Where the model with its input and data is."""
        layers = self.layers or NUM_LAYERS[self.model]
        return CACHE / "benchmarks" / f"{self.model}-{layers}-{self.precision}"

    @property
    def atoms(self) -> int:
        """Of all frames."""
        return 3 * MOLECULES_PER_EDGE**3 * self.copies**3 * self.frames

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return coord (F, N, 3) Å, box (F, 3, 3) Å and atype (N,)."""
        coord, box, atype = water_frame()
        steps = np.stack(np.meshgrid(*[range(self.copies)] * 3, indexing="ij"), axis=-1)
        coord = (coord[None] + (steps.reshape(-1, 3) @ box)[:, None]).reshape(1, -1, 3)
        boxes = np.repeat(box[None] * self.copies, self.frames, axis=0)
        return np.repeat(coord, self.frames, axis=0), boxes, np.tile(atype, self.copies**3)


def model_section(size: str, layers: int = 0, precision: str = "float64") -> dict[str, Any]:
    """Return the `model` section with the published hyperparameters but for those given."""
    medium = size == "medium"
    return {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "dpa2",
            "repinit": {
                "rcut": 6.0,
                "rcut_smth": 0.5,
                "nsel": 120,
                "neuron": [25, 50, 100],
                "axis_neuron": 12,
                "tebd_dim": 8,
                "use_three_body": True,
                "three_body_sel": 48,
                "three_body_rcut": 4.0,
                "three_body_rcut_smth": 3.5,
            },
            "repformer": {
                "rcut": 4.0,
                "rcut_smth": 3.5,
                "nsel": 48,
                "nlayers": layers or NUM_LAYERS[size],
                "g1_dim": 128,
                "g2_dim": 32,
                "axis_neuron": 4,
                "attn1_hidden": 128,
                "attn1_nhead": 4,
                "attn2_hidden": 32,
                "attn2_nhead": 4,
                "attn2_has_gate": True,
                "update_g1_has_attn": False,
                "update_g2_has_g1g1": False,
                "update_g2_has_attn": medium,
                "update_style": "res_residual",
                "update_residual": 0.01,
                "update_residual_init": "norm",
            },
            "precision": precision,
            "seed": 1,
        },
        "fitting_net": {"neuron": [240, 240, 240], "precision": precision, "seed": 1},
    }


def input_file(
    size: str, system: Path, layers: int = 0, precision: str = "float64"
) -> dict[str, Any]:
    """Return a training input on one frame: energy and force loss, Adam."""
    return {
        "model": model_section(size, layers, precision),
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 3.51e-8},
        "loss": {
            "type": "ener",
            "start_pref_e": 0.02,
            "limit_pref_e": 1,
            "start_pref_f": 1000,
            "limit_pref_f": 1,
        },
        "training": {
            "training_data": {"systems": [str(system)], "batch_size": 1},
            "numb_steps": 1_000_000,
            "seed": 1,
            "disp_freq": 1_000_000,
            "save_freq": 1_000_000,
        },
    }


def water_frame() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coord (192, 3) Å, box (3, 3) Å and atype (192,) of a disordered water box.

    At most 105 neighbours within 6 Å and 38 within 4 Å, as in liquid water.
    """
    rng = np.random.default_rng(2024)
    spacing = BOX_EDGE / MOLECULES_PER_EDGE
    axis = (np.arange(MOLECULES_PER_EDGE) + 0.5) * spacing
    sites = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    sites += rng.uniform(-0.6, 0.6, size=sites.shape)
    angle = np.radians(104.5)
    coord = []
    for site in sites:
        first, other = rng.normal(size=(2, 3))
        first /= np.linalg.norm(first)
        other -= first * (first @ other)
        other /= np.linalg.norm(other)
        second = np.cos(angle) * first + np.sin(angle) * other
        coord += [site, site + 0.97 * first, site + 0.97 * second]
    return np.array(coord), np.eye(3) * BOX_EDGE, np.tile([0, 1, 1], len(sites))


def write_system(folder: Path) -> None:
    """Write the frame as deepmd/npy with arbitrary labels: only the time counts."""
    coord, box, atype = water_frame()
    rng = np.random.default_rng(2025)
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    arrays = {
        "coord": coord.reshape(1, -1),
        "box": box.reshape(1, 9),
        "energy": np.array([-100.0]),
        "force": rng.normal(size=(1, coord.size)),
    }
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array)
    (folder / "type.raw").write_text("\n".join(map(str, atype)) + "\n")
    (folder / "type_map.raw").write_text("O\nH\n")


def prepare(work: Work) -> None:
    """Write the system and `input.json` into the folder of a work."""
    system = work.folder / "water"
    write_system(system)
    text = json.dumps(input_file(work.model, system, work.layers, work.precision), indent=1)
    (work.folder / "input.json").write_text(text + "\n")
