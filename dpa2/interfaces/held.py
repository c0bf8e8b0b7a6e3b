"""Which directions ASE's constraints keep atoms from moving in."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled
from numpy.typing import NDArray

from schemas.errors import DataError

Floats = NDArray[np.float64]

_ROUNDING = 1e-9

# Of a constraint and a cell: the projection (3, 3) onto what its atoms can still do.
_FREEDOM: dict[type, Callable[[Any, Floats], Floats]] = {
    FixAtoms: lambda _constraint, _cell: np.zeros((3, 3)),
    FixCartesian: lambda constraint, _cell: np.diag(~constraint.mask).astype(np.float64),
    FixScaled: lambda constraint, cell: _onto(cell[~constraint.mask]),
    FixedPlane: lambda constraint, _cell: np.eye(3) - _onto(constraint.dir[None]),
    FixedLine: lambda constraint, _cell: _onto(constraint.dir[None]),
}


def held_directions(atoms: Atoms, rotation: Floats) -> NDArray[np.bool_]:
    """Return which coordinates (N, 3) of atoms stay as they are.

    Args:
        atoms: With constraints.
        rotation: (3, 3); coordinates are those of `positions @ rotation`.

    Raises:
        DataError: If a constraint does more than to hold coordinates; names it.
    """
    held = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        name = type(constraint).__name__
        freedom = _FREEDOM.get(type(constraint))
        if freedom is None:
            raise DataError(
                f"the structure has the constraint {name}, which a LAMMPS input of zoo cannot hold",
                hint="use --engine ase, which keeps it, or take it out of the structure",
            )
        turned = rotation.T @ freedom(constraint, atoms.cell.array) @ rotation
        free = np.diag(turned)
        if np.abs(turned - np.diag(np.rint(free))).max() > _ROUNDING:
            raise DataError(
                f"the constraint {name} of atom {int(constraint.index[0])} (counted from 0) holds "
                "it in a direction that is no axis of LAMMPS's cell",
                hint="use --engine ase, which keeps it, or fix the atoms as a whole (FixAtoms)",
            )
        held[constraint.index] |= free < 0.5
    return held


def _onto(vectors: Floats) -> Floats:
    """Return the projection (3, 3) onto the span of independent vectors (K, 3)."""
    basis, _ = np.linalg.qr(vectors.T)
    return np.asarray(basis @ basis.T)
