"""Frame and atom parameters (fparam, aparam) that ASE structures carry."""

from typing import NamedTuple

from ase import Atoms
from numpy.typing import ArrayLike

from dpa2.evaluate.potential import Potential


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
