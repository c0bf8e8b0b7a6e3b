"""The answer of a model: energies, forces and virials as numpy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions for F frames of N atoms.

    Attributes:
        energy: (F,) eV.
        force: (F, N, 3) eV/Å, -dE/dcoord; zero for padding.
        virial: (F, 3, 3) eV, -dE/dstrain.
        atom_energy: (F, N) eV; zero for padding.
        atom_virial: (F, N, 3, 3) eV, None unless asked for.
        descriptor: (F, N, D), None unless asked for.
    """

    energy: FloatArray
    force: FloatArray
    virial: FloatArray
    atom_energy: FloatArray | None = None
    atom_virial: FloatArray | None = None
    descriptor: FloatArray | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return int(self.energy.shape[0])


def nothing(num_frames: int, num_atoms: int) -> Evaluation:
    """Return what is known of frames that cannot be evaluated: NaN."""
    return Evaluation(
        energy=np.full(num_frames, np.nan),
        force=np.full((num_frames, num_atoms, 3), np.nan),
        virial=np.full((num_frames, 3, 3), np.nan),
        atom_energy=np.full((num_frames, num_atoms), np.nan),
    )


def join(parts: Sequence[Evaluation]) -> Evaluation:
    """Join evaluations of consecutive frames; what the first part lacks stays None."""
    joined: dict[str, Any] = {}
    for field in fields(Evaluation):
        arrays = [getattr(part, field.name) for part in parts]
        joined[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return Evaluation(**joined)
