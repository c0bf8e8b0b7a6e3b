"""An ASE calculator."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from numpy.typing import ArrayLike

from dpa2.evaluate.potential import Potential, load
from schemas.errors import DataError


class Calculator(AseCalculator):
    """Energies (eV), forces (eV/Å) and stress (eV/Å³) of a DPA-2 model.

    Chemical symbols are looked up in the model's type_map. Structures are periodic in all
    directions or in none; the stress exists for periodic ones only and is -virial / volume.

    Args:
        model: A `Potential`, or the path of a model file.
        branch: Which branch, where a path of a multi-task checkpoint is given.
        device: Where to compute, where a path is given.
        fparam: (P,) frame parameters, where the model takes them.
        aparam: (N, Q) atom parameters, where the model takes them.
    """

    implemented_properties = [  # noqa: RUF012 - declared as an instance variable by ASE
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        model: Potential | str | os.PathLike[str],
        *,
        branch: str | None = None,
        device: str = "cpu",
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.potential = model if isinstance(model, Potential) else load(model, branch, device)
        self.fparam = fparam
        self.aparam = aparam

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `self.results`; ASE calls this.

        Raises:
            DataError: If the model does not know an element, or only some directions are periodic.
        """
        super().calculate(atoms, list(properties), list(system_changes))  # type: ignore[no-untyped-call]
        structure: Any = self.atoms
        box = cell_of(structure)
        evaluation = self.potential.predict(
            structure.get_positions(),
            box,
            structure.get_chemical_symbols(),
            fparam=self.fparam,
            aparam=self.aparam,
            atomic=False,
        )
        assert evaluation.atom_energy is not None
        energy = float(evaluation.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": evaluation.atom_energy[0],
            "forces": evaluation.force[0],
        }
        if box is not None:
            virial = 0.5 * (evaluation.virial[0] + evaluation.virial[0].T)
            stress = -virial / structure.get_volume()
            # Voigt order: xx, yy, zz, yz, xz, xy.
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def cell_of(atoms: Atoms) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """Return the cell (3, 3) Å, or None without periodic boundaries.

    Raises:
        DataError: If only some directions are periodic, which DPA-2 models do not support.
    """
    if not atoms.pbc.any():
        return None
    if not atoms.pbc.all():
        raise DataError(
            f"the structure is periodic in some directions only (pbc = {atoms.pbc.tolist()})",
            hint="make it periodic in all, with a vacuum layer wider than the model's cutoff",
        )
    return np.asarray(atoms.cell.array, dtype=np.float64)
