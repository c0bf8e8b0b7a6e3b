"""Frame and atom parameters (fparam, aparam) that ASE structures carry."""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from dpa2.evaluate.potential import Potential
from schemas.errors import DataError


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
