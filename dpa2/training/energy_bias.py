"""The energy of each element, fitted to the data before (or after) the network learns the rest."""

# Axes:  F frames of all systems together   N atoms   T atom types

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import Frames
from schemas.base.errors import DataError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class EnergyBias:
    """An energy per element and how far the data are from it.

    Attributes:
        bias: (T,) eV.
        std: (T,) eV: spread of the frames' energies around the fit (the same for all types), or
            of the energies of the atoms of a type where the data label them.
        rmse_per_atom: eV, of the fit; None when only energies of atoms are labelled.
    """

    bias: FloatArray
    std: FloatArray
    rmse_per_atom: float | None = None


def fit_energy_bias(
    batches: Sequence[Frames],
    num_types: int,
    *,
    preset: Sequence[float | None] | None = None,
    excluded_types: Collection[int] = (),
    predicted: Sequence[FloatArray] | None = None,
    predicted_atoms: Sequence[FloatArray] | None = None,
) -> EnergyBias:
    """Fit an energy per type to the labels of frames (docs/deepmd-format.md, 5.3).

    Energies of frames are fitted by least squares; the solution of smallest norm where the data
    leave a choice (elements in a fixed ratio). Where no frame has an energy, the energies of atoms
    are averaged. (deepmd-kit 3.2 fits the frames even where atoms are labelled.)

    Args:
        batches: The frames, those without energies included.
        num_types: T, length of the type map.
        preset: Energies that are given, eV, None for a type to fit; None when none is given.
        excluded_types: Types whose atoms contribute no energy.
        predicted: (F,) eV per batch: fit what these predictions leave over instead.
        predicted_atoms: (F, N) eV per batch, likewise for energies of atoms.

    Raises:
        DataError: When there are no energies at all.
    """
    from_frames = _fit_frames(batches, num_types, preset, set(excluded_types), predicted)
    if from_frames is not None:
        return from_frames
    from_atoms = _average_atoms(batches, num_types, preset, predicted_atoms)
    if from_atoms is not None:
        return from_atoms
    raise DataError(
        "the training data have no energies, so that no energy per element can be fitted",
        hint="add energy.npy to the training data",
    )


def _fit_frames(
    batches: Sequence[Frames],
    num_types: int,
    preset: Sequence[float | None] | None,
    excluded_types: set[int],
    predicted: Sequence[FloatArray] | None,
) -> EnergyBias | None:
    labelled = [i for i, batch in enumerate(batches) if batch.energy is not None]
    if not labelled:
        return None
    counts = np.concatenate([_type_counts(batches[i], num_types) for i in labelled])
    energy = np.concatenate([batches[i].energy for i in labelled])
    if predicted is not None:
        energy = energy - np.concatenate([predicted[i] for i in labelled])
    counts[:, sorted(excluded_types)] = 0.0
    # Preset energies leave the fit: their share is subtracted, their columns vanish.
    given = np.array([np.nan if value is None else value for value in preset or [None] * num_types])
    fixed = ~np.isnan(given)
    rest = energy - counts[:, fixed] @ given[fixed]
    free = counts.copy()
    free[:, fixed] = 0.0
    bias = np.linalg.lstsq(free, rest[:, None], rcond=None)[0][:, 0]
    bias[fixed] = given[fixed]
    std = float((rest - free @ bias).std())
    num_atoms = np.maximum(counts.sum(axis=1), 1.0)
    rmse = float(np.sqrt(np.mean(np.square((energy - counts @ bias) / num_atoms))))
    return EnergyBias(bias, np.full(num_types, std), rmse)


def _average_atoms(
    batches: Sequence[Frames],
    num_types: int,
    preset: Sequence[float | None] | None,
    predicted: Sequence[FloatArray] | None,
) -> EnergyBias | None:
    labelled = [i for i, batch in enumerate(batches) if batch.atom_energy is not None]
    if not labelled:
        return None
    types = np.concatenate([batches[i].atom_types.ravel() for i in labelled])
    energy = np.concatenate([b.atom_energy.ravel() for b in batches if b.atom_energy is not None])
    if predicted is not None:
        energy = energy - np.concatenate([predicted[i].ravel() for i in labelled])
    bias = np.zeros(num_types)
    std = np.ones(num_types)
    for kind in range(num_types):
        of_kind = energy[types == kind]
        if of_kind.size:
            bias[kind], std[kind] = of_kind.mean(), of_kind.std()
    for kind, given in enumerate(preset or ()):
        bias[kind] = bias[kind] if given is None else given
    return EnergyBias(bias, std)


def _type_counts(batch: Frames, num_types: int) -> FloatArray:
    """Return (F, T) numbers of atoms."""
    return np.stack(
        [(batch.atom_types == kind).sum(axis=1) for kind in range(num_types)], -1
    ).astype(np.float64)
