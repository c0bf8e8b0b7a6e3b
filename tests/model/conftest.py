import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.weights import load_deepmd_state
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel, Prediction
from schemas.input.model import parse_model

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class GoldenCase:
    """A model with deepmd-kit's weights, its input arrays and what deepmd-kit made of them."""

    model: EnergyModel
    arrays: dict[str, np.ndarray]

    @property
    def atom_types(self) -> np.ndarray:
        shape = self.arrays["coord"].shape[:2]
        return np.broadcast_to(self.arrays["atype"], shape).astype(np.int64)

    def graph(self):
        return self.model.graph(self.arrays["coord"], self.arrays.get("box"), self.atom_types)

    def predict(self, graph=None) -> Prediction:
        fparam, aparam = (
            torch.from_numpy(self.arrays[key]) if key in self.arrays else None
            for key in ("fparam", "aparam")
        )
        return self.model(
            self.graph() if graph is None else graph,
            fparam,
            aparam,
            atomic_virial=True,
            with_descriptor=True,
        )

    def expected(self, name: str) -> np.ndarray | None:
        """Return deepmd-kit's array in the shape of ours, or None if it is not recorded."""
        if name not in self.arrays:
            return None
        num_frames, num_atoms = self.atom_types.shape
        shape = {
            "energy": (num_frames,),
            "virial": (num_frames, 3, 3),
            "atom_energy": (num_frames, num_atoms),
            "atom_virial": (num_frames, num_atoms, 3, 3),
        }.get(name, self.arrays[name].shape)
        return self.arrays[name].reshape(shape)


def load_case(name: str, precision: str | None = None) -> GoldenCase:
    section, state = read_checkpoint(GOLDEN / name / "model.pt").branch()
    if precision is not None:
        section["descriptor"]["precision"] = section["fitting_net"]["precision"] = precision
    model = build_model(parse_model(section))
    load_deepmd_state(model, state)
    with np.load(GOLDEN / name / "expected.npz") as archive:
        return GoldenCase(model, dict(archive))


@pytest.fixture(scope="session")
def golden():
    """Load a golden case by name; tests do not change what it returns."""
    return cache(load_case)


@pytest.fixture(scope="session")
def initial_weights() -> dict[str, Any]:
    return json.loads((GOLDEN / "initial_weights.json").read_text())
