"""A model for torch-sim, which runs many structures at once (torch-sim-atomistic >= 0.6)."""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch_sim.models.interface import ModelInterface

from dpa2.data.cells import PeriodicBox
from dpa2.data.frames import PADDING
from dpa2.evaluate.potential import Potential, load
from dpa2.formats.structures import Evaluation
from schemas.base.errors import DataError


class TorchSimModel(ModelInterface):  # type: ignore[misc]
    """Energies (eV), forces (eV/Å) and stresses (eV/Å³) of all systems of a state.

    Systems of unequal size are evaluated together. Any directions may be periodic.

    Args:
        model: A `Potential`, or the path of a model file (`.pt`, `.pth`).
        branch: Which branch, where a path of a multi-task checkpoint is given.
        device: Where to compute, where a path is given.
        dtype: Of the results. What computes is as precise as the model; a `Potential` of
            `dpa2.load(path, dtype="float32")` is as precise as that says.
        fparam: (P,) frame parameters of all systems, where the model takes them; also an attribute
            to set.

    Raises:
        DataError: If the model takes parameters of atoms: a state has none.
    """

    def __init__(
        self,
        model: Potential | str | os.PathLike[str],
        *,
        branch: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
        fparam: ArrayLike | None = None,
    ) -> None:
        super().__init__()
        self.potential = model if isinstance(model, Potential) else load(model, branch, device)
        if self.potential.dim_aparam:
            raise DataError(
                f"the model takes aparam, {self.potential.dim_aparam} numbers of each atom, "
                "and states of torch-sim have none",
                hint="use the ASE calculator: from dpa2.ase import Calculator",
            )
        self.fparam = fparam
        self._device = self.potential.device
        self._dtype = dtype
        self._compute_stress = True
        self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"

    def forward(self, state: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Return `energy` (S,), `forces` (A, 3) and `stress` (S, 3, 3) of S systems, A atoms.

        The stress of a system whose cell has no volume is 0.

        Raises:
            DataError: If the model does not know an element, or needs `fparam`.
        """
        del kwargs
        systems = _Systems(state, self.potential)
        evaluation = self.potential.predict(
            systems.coord, systems.box, systems.types, fparam=self.fparam, atomic=False
        )
        results = {
            "energy": evaluation.energy,
            "forces": systems.in_order(evaluation.force),
            "stress": systems.stress(evaluation),
        }
        return {
            name: torch.as_tensor(values, dtype=self.dtype, device=self.device)
            for name, values in results.items()
        }


class _Systems:
    """The systems of a torch-sim state as frames of one length, padded."""

    def __init__(self, state: Any, potential: Potential) -> None:
        positions = _array(state.positions)
        cells = _array(state.row_vector_cell)
        self.system = _array(state.system_idx).astype(np.int64)
        counts = np.bincount(self.system, minlength=len(cells))
        # The place of each atom within its system; torch-sim sorts atoms by system.
        self.place = np.arange(len(positions)) - (np.cumsum(counts) - counts)[self.system]
        shape = (len(cells), int(counts.max(initial=1)))
        self.coord = np.zeros((*shape, 3))
        self.coord[self.system, self.place] = positions
        self.types = np.full(shape, PADDING, dtype=np.int64)
        self.types[self.system, self.place] = _types(_array(state.atomic_numbers), potential)
        self.volume = np.abs(np.linalg.det(cells))
        pbc = np.broadcast_to(_array(state.pbc).astype(bool), 3)
        self.box: NDArray[np.float64] | None = None
        if pbc.any():
            boxes = [
                PeriodicBox(potential.rcut)(positions[self.system == s], cell, pbc)
                for s, cell in enumerate(cells)
            ]
            self.box = np.stack([box for box in boxes if box is not None])

    def in_order(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values of padded frames (S, N, ...) in the state's order (A, ...)."""
        return np.asarray(values[self.system, self.place])

    def stress(self, evaluation: Evaluation) -> NDArray[np.float64]:
        """Return -virial / volume (S, 3, 3), symmetric."""
        virial = 0.5 * (evaluation.virial + evaluation.virial.transpose(0, 2, 1))
        inverse = np.divide(1.0, self.volume, out=np.zeros_like(self.volume), where=self.volume > 0)
        return np.asarray(-virial * inverse[:, None, None])


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(torch.as_tensor(tensor).detach().cpu().numpy())


def _types(numbers: NDArray[Any], potential: Potential) -> NDArray[np.int64]:
    from ase.data import atomic_numbers, chemical_symbols

    type_of = np.full(len(chemical_symbols), PADDING, dtype=np.int64)
    for index, element in enumerate(potential.type_map):
        if element in atomic_numbers:
            type_of[atomic_numbers[element]] = index
    types = type_of[numbers]
    if (types == PADDING).any():
        unknown = sorted({chemical_symbols[number] for number in numbers[types == PADDING]})
        raise DataError(
            f"the model does not know {', '.join(unknown)}; "
            f"it knows {' '.join(potential.type_map[:20])}"
        )
    return np.asarray(types, dtype=np.int64)
