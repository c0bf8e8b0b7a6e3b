"""An ASE calculator, and the frame and atom parameters that ASE structures carry."""

import copy
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from numpy.typing import ArrayLike

from dpa2.data.cells import PeriodicBox
from dpa2.evaluate.potential import Potential, load
from dpa2.model.neighbors import SkinSearch
from schemas.base.errors import DataError


class Parameters(NamedTuple):
    """What a model is told beside a structure, as `Potential.predict` takes it.

    Attributes:
        fparam: (P,) of the frame; None: not given.
        aparam: (N, Q) of its atoms; None: not given.
    """

    fparam: ArrayLike | None = None
    aparam: ArrayLike | None = None


def parameters_of(atoms: Atoms, potential: Potential, otherwise: Parameters) -> Parameters:
    """Return the parameters to evaluate a structure with.

    A structure's own count first: `info["fparam"]`, and `arrays["aparam"]` or, as deepmd-kit's
    calculator has it, `info["aparam"]`. Where the model takes none, they are for another model.

    Args:
        atoms: The structure.
        potential: The model.
        otherwise: For structures without their own.
    """
    fparam = atoms.info.get("fparam") if potential.dim_fparam else None
    aparam = atoms.arrays.get("aparam", atoms.info.get("aparam")) if potential.dim_aparam else None
    return Parameters(
        otherwise.fparam if fparam is None else fparam,
        otherwise.aparam if aparam is None else aparam,
    )


def checked_parameters(parameters: Parameters, potential: Potential, num_atoms: int) -> Parameters:
    """Return fparam (P,) and aparam (N, Q), or None where the model needs none.

    Args:
        parameters: Of any shape with as many numbers; aparam also those of one atom, for all.
        potential: The model.
        num_atoms: N.

    Raises:
        DataError: If they are missing, of another size, or for a model that takes none.
    """
    fparam, aparam = parameters
    if fparam is None and potential.has_default_fparam:
        shaped = None
    else:
        shaped = _shaped("fparam", fparam, potential.dim_fparam, "per frame", 1)
    if aparam is not None and np.size(aparam) == potential.dim_aparam:
        aparam = np.tile(np.ravel(aparam), num_atoms)
    per_atom = _shaped("aparam", aparam, potential.dim_aparam, "per atom", num_atoms)
    return Parameters(
        None if shaped is None else shaped[0],
        per_atom,
    )


def _shaped(
    name: str, values: ArrayLike | None, width: int, of_what: str, rows: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    if values is None:
        if width:
            raise DataError(
                f"the model needs {name}: {width} numbers {of_what}",
                hint=f"give them with --{name}, or in the structure: fparam in its info, aparam as "
                "a column of its atoms",
            )
        return None
    if not width:
        raise DataError(f"the model takes no {name}", hint=f"leave {name} out")
    array = np.asarray(values, dtype=np.float64)
    if array.size != rows * width or not np.isfinite(array).all():
        raise DataError(
            f"{name} has {array.size} numbers, and the model takes {width} finite ones {of_what}"
        )
    return array.reshape(rows, width)


SKIN = 0.5
"""Margin of the neighbour list, Å: liquid water at 300 K outgrows it in about 20 fs."""


class Calculator(AseCalculator):
    """Energies (eV), forces (eV/Å) and stress (eV/Å³) of a DPA-2 model.

    Chemical symbols are looked up in the model's type_map. Any directions may be periodic. The
    stress is -virial / volume in ASE's order (xx, yy, zz, yz, xz, xy); it exists where a direction
    is periodic and the structure's own cell has a volume.

    Frame and atom parameters of a structure, `atoms.info["fparam"]` and `atoms.arrays["aparam"]`,
    count before those of the calculator. A change of either, like that of a position, gives new
    results.

    Args:
        model: A `Potential`, or the path of a model that `dpa2.load` opens.
        branch: Which branch, where a path of a multi-task checkpoint is given.
        device: Where to compute, where a path is given.
        dtype: Compute in `float32` or `float64`, where a path is given; None: in the model's own
            precision. Results are float64.
        fparam: (P,) frame parameters, where the model takes them; also an attribute to set.
        aparam: (N, Q) atom parameters, where the model takes them; also an attribute to set.
        skin: Margin of the neighbour list, Å. The list is searched again when an atom has moved
            by more than half of it; results do not depend on it. 0 searches at every step.
        compile: Compile the network with `torch.compile`: minutes at the first step, for long runs
            of structures of one size. Without a compiler the network runs as it is, after a
            warning. Checkpoints (`.pt`) only.

    Raises:
        DataError: If the skin is negative, or a keyword means nothing here.
    """

    # What the model does not see.
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012 - declared by ASE

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
        dtype: str | None = None,
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
        skin: float = SKIN,
        compile: bool = False,  # noqa: A002 - torch's word for it
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        if not skin >= 0.0:
            raise DataError(f"a skin of {skin} Å is no margin", hint="give 0 or more")
        self._potential = (
            model if isinstance(model, Potential) else load(model, branch, device, dtype)
        )
        self.fparam = fparam
        self.aparam = aparam
        # The parameters that the results were computed with.
        self._used = Parameters()
        self._search = SkinSearch(skin)
        self._periodic_box = PeriodicBox(self.potential.rcut)
        if compile:
            self.potential.compile()

    @property
    def potential(self) -> Potential:
        """The model.

        `potential.num_dropped` counts neighbours beyond its `nsel`, of which the first is also a
        `DroppedNeighborsWarning`.
        """
        return self._potential

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Set `fparam` or `aparam`; returns what changed.

        Raises:
            DataError: If another keyword is given: it would change nothing.
        """
        unknown = sorted(kwargs.keys() - set(Parameters._fields))
        if unknown:
            raise DataError(
                f"the calculator has no parameter {', '.join(unknown)}",
                hint="it takes branch, device, dtype, fparam, aparam, skin and compile when it is "
                "made; fparam and aparam can be set later",
            )
        for name, value in kwargs.items():
            setattr(self, name, value)
        return kwargs

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last results, parameters included; ASE calls this."""
        changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]
        pairs = zip(Parameters._fields, self._parameters(atoms), self._used, strict=True)
        return changes + [
            name
            for name, now, used in pairs
            if not np.array_equal(now, used)  # type: ignore[arg-type]  # None equals None only
        ]

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Return a result of a structure, of the last one where none is given; ASE calls this."""
        last = self.atoms if atoms is None else atoms
        return super().get_property(name, last, allow_calculation)  # type: ignore[no-untyped-call]

    def _parameters(self, atoms: Atoms) -> Parameters:
        return parameters_of(atoms, self.potential, Parameters(self.fparam, self.aparam))

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `self.results`; ASE calls this.

        Raises:
            DataError: If the model does not know an element, atoms coincide, or a periodic
                direction has no cell vector.
        """
        super().calculate(atoms, list(properties), list(system_changes))  # type: ignore[no-untyped-call]
        structure: Any = self.atoms
        positions = structure.get_positions()
        self._used = copy.deepcopy(self._parameters(structure))
        evaluation = self.potential.predict(
            positions,
            self._periodic_box(positions, structure.cell.array, structure.pbc),
            structure.get_chemical_symbols(),
            fparam=self._used.fparam,
            aparam=self._used.aparam,
            atomic=False,
            find_pairs=self._search,
        )
        assert evaluation.atom_energy is not None
        energy = float(evaluation.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": evaluation.atom_energy[0],
            "forces": evaluation.force[0],
        }
        if structure.pbc.any() and structure.cell.rank == 3:
            self.results["stress"] = stress(evaluation.virial[0], structure.cell.volume)


def stress(virial: ArrayLike, volume: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return ASE's stress (6,), eV/Å³: -virial / volume, in the order xx, yy, zz, yz, xz, xy.

    Args:
        virial: (3, 3) eV, -dE/dstrain.
        volume: Å³.
    """
    matrix = np.asarray(virial)
    tensor = -0.5 * (matrix + matrix.T) / volume
    return np.asarray(tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])


def box_of(atoms: Atoms, rcut: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """Return the cell (3, 3) Å to compute a structure in, or None without periodic boundaries.

    Args:
        atoms: Periodic in any directions.
        rcut: Cutoff of the model, Å.

    Raises:
        DataError: If a periodic direction has no cell vector.
    """
    return PeriodicBox(rcut)(atoms.positions, atoms.cell.array, atoms.pbc)
