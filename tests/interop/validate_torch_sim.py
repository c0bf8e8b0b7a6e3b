"""Let torch-sim judge our model and run it; runs in the environment of `setup_runtimes.sh`.

validate_torch_sim.py ELEMENTS_MODEL WATER_MODEL WATER.npz
"""

import json
import sys

import numpy as np
import torch
import torch_sim
from ase import Atoms
from ase.build import molecule
from torch_sim.models.interface import validate_model_outputs

from dpa2.interfaces.torch_sim import TorchSimModel


def water_results(model: TorchSimModel, arrays: dict) -> dict:
    """Return what a batch of two cells of unequal size gives."""
    symbols = [model.potential.type_map[number] for number in arrays["atype"]]
    frames = [
        Atoms(symbols, coord, cell=box, pbc=True)
        for coord, box in zip(arrays["coord"], arrays["box"], strict=True)
    ]
    state = torch_sim.io.atoms_to_state(
        [frames[0], frames[1].repeat((2, 1, 1))], "cpu", torch.float64
    )
    found = model(state)
    return {name: tensor.tolist() for name, tensor in found.items()}


def total_energies(model: TorchSimModel, arrays: dict) -> list[float]:
    """Return the total energy of two molecules along a run at constant energy, in one batch."""
    atoms = [molecule("H2O"), molecule("H2O")]
    atoms[1].rattle(0.02, seed=1)
    state = torch_sim.io.atoms_to_state(atoms, "cpu", torch.float64)
    state = torch_sim.nve_init(state, model, kT=torch.tensor(0.005, dtype=torch.float64), seed=1)
    step = torch.tensor(0.00025 * torch_sim.units.MetalUnits.time, dtype=torch.float64)
    energies = []
    for _ in range(40):
        kinetic = torch_sim.quantities.calc_kinetic_energy(
            masses=state.masses, momenta=state.momenta, system_idx=state.system_idx
        )
        energies.append((state.energy + kinetic).tolist())
        state = torch_sim.nve_step(state, model, dt=step)
    return energies


def main() -> None:
    """Print the results as one JSON line."""
    elements, water, structure = sys.argv[1:]
    for dtype in (torch.float64, torch.float32):
        model = TorchSimModel(elements, dtype=dtype)
        validate_model_outputs(model, torch.device("cpu"), dtype)
    arrays = dict(np.load(structure))
    model = TorchSimModel(water)
    document = water_results(model, arrays) | {"total": total_energies(model, arrays)}
    sys.stdout.write("\n" + json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
