"""Golden cases: models with deepmd-kit's weights, inputs, and what deepmd-kit made of them.

tests/golden/README.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpa2.evaluate.potential import Potential, load
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.structures import Evaluation
from dpa2.formats.weights import load_deepmd_state
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel, Prediction
from dpa2.model.graph import Graph
from schemas.input.model import parse_model

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))
QUANTITIES = ("energy", "force", "virial", "atom_energy", "atom_virial", "descriptor")
INPUTS = ("coord", "atype", "box", "fparam", "aparam")


@dataclass(frozen=True)
class GoldenCase:
    """A golden case.

    Attributes:
        section: Its model section.
        model: The network.
        arrays: Inputs and deepmd-kit's outputs.
    """

    section: dict[str, Any]
    model: EnergyModel
    arrays: dict[str, np.ndarray]

    @property
    def atom_types(self) -> np.ndarray:
        shape = self.arrays["coord"].shape[:2]
        return np.broadcast_to(self.arrays["atype"], shape).astype(np.int64)

    def graph(self) -> Graph:
        return self.model.graph(self.arrays["coord"], self.arrays.get("box"), self.atom_types)

    def predict(self, graph: Graph | None = None) -> Prediction:
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
    """Load a case, perhaps to compute in another precision."""
    section, state = read_checkpoint(GOLDEN / name / "model.pt").branch()
    if precision is not None:
        section["descriptor"]["precision"] = section["fitting_net"]["precision"] = precision
    model = build_model(parse_model(section))
    load_deepmd_state(model, state)
    with np.load(GOLDEN / name / "expected.npz") as archive:
        return GoldenCase(section, model, dict(archive))


def golden_arrays(name: str) -> dict[str, np.ndarray | None]:
    """Return what a potential predicts a case from."""
    with np.load(GOLDEN / name / "expected.npz") as archive:
        arrays = {key: archive[key] for key in archive.files if key in INPUTS}
    types = np.broadcast_to(arrays["atype"], arrays["coord"].shape[:2])
    return {key: arrays.get(key) for key in INPUTS} | {"atype": types.astype(np.int64)}


def golden_tensors(name: str) -> dict[str, torch.Tensor | None]:
    """Return the same as tensors, the arguments of `forward`."""
    return {
        key: None if array is None else torch.from_numpy(array.copy())
        for key, array in golden_arrays(name).items()
    }


def assert_checkpoint_numbers(
    model: Potential | Path,
    case: str,
    names: tuple[str, ...] = QUANTITIES[:-1],
    atol: float = 1e-10,
    **changes: Any,
) -> Evaluation:
    """Compare what a potential, or the one in a file, predicts with the checkpoint of a case."""
    arguments = golden_arrays(case) | changes
    found = (model if isinstance(model, Potential) else load(model)).predict(**arguments)
    expected = load(GOLDEN / case / "model.pt").predict(**arguments)
    for name in names:
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=0, atol=atol, err_msg=name
        )
    return found
