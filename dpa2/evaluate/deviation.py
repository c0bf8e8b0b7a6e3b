"""Model deviation: how far several models disagree on structures that none was fitted to.

The columns and their definitions are those of deepmd-kit's `dp model-devi`.
"""

# Axes:  m models   F frames   N atoms per frame   X = x, y, z

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import PADDING, Frames
from dpa2.data.stored_system import StoredSystem
from dpa2.data.system import System, translate
from dpa2.evaluate.comparison import BadFrame, evaluate_good, with_gaps
from dpa2.evaluate.potential import Potential, predict_frames
from schemas.base.errors import DataError
from schemas.base.writing import atomic_write

Floats = NDArray[np.float64]

COLUMNS = (
    "max_devi_v",
    "min_devi_v",
    "avg_devi_v",
    "max_devi_f",
    "min_devi_f",
    "avg_devi_f",
    "devi_e",
)
"""Of `model_devi.out`, after the step: virial per atom (eV), force (eV/Å), energy per atom (eV)."""

_FRAMES_PER_READ = 50
_LABELS = ("energy", "force", "virial")


@dataclass(frozen=True, slots=True)
class DeviationSettings:
    """What is computed.

    Attributes:
        relative: Level eps of relative force deviations, eV/Å: s / (|F| + eps); None: absolute.
        relative_v: Level of relative virial deviations, eV; None: absolute.
        real_error: Root mean square errors of the models against the labels, instead of their
            disagreement.
        frequency: Steps between two frames, for the column `step`.
        strict: Let the first bad frame end the evaluation, instead of a row of NaN.
    """

    relative: float | None = None
    relative_v: float | None = None
    real_error: bool = False
    frequency: int = 1
    strict: bool = False


@dataclass(frozen=True, slots=True)
class SystemDeviation:
    """The deviations on one system.

    Attributes:
        system: Its name.
        step: (F,) number of the frame, in a file of structures that in it, times the frequency.
        values: (F, 7), see `COLUMNS`; NaN for bad frames.
        atomic: (F, N) force deviation of each atom, eV/Å; NaN for padding and bad frames.
        bad: The frames that could not be evaluated.
    """

    system: str
    step: NDArray[np.int64]
    values: Floats
    atomic: Floats
    bad: list[BadFrame]

    @property
    def largest(self) -> list[float | None]:
        """The largest of each column over the good frames; None without any."""
        if len(self.bad) == len(self.step):
            return [None] * len(COLUMNS)
        largest: list[float | None] = np.nanmax(self.values, axis=0).tolist()
        return largest

    def to_json(self) -> dict[str, Any]:
        """Return plain containers: the largest of each column over the frames."""
        return {
            "system": self.system,
            "num_frames": len(self.step),
            "num_bad_frames": len(self.bad),
            **dict(zip(COLUMNS, self.largest, strict=True)),
            "bad_frames": [frame.to_json() for frame in self.bad],
        }


def spread(
    predicted_m: Floats, label: Floats | None, level: float | None, *, of_vectors: bool
) -> Floats:
    """Return how far models disagree on vectors or on each of their components.

    sqrt(mean_m |x_m - mean x|^2); labels take the place of the mean. With a level eps, divided by
    |mean x| + eps (or |label| + eps), whose magnitude is that of the whole vector in any case.

    Args:
        predicted_m: What each model says (m, ..., C).
        label: The truth (..., C), or None.
        level: eps of relative deviations, in the unit of the values; None: absolute.
        of_vectors: Return (...), else (..., C).
    """
    center = predicted_m.mean(axis=0) if label is None else label
    squares = np.square(predicted_m - center)
    found = np.sqrt((squares.sum(axis=-1) if of_vectors else squares).mean(axis=0))
    if level is None:
        return np.asarray(found)
    return np.asarray(found / (np.linalg.norm(center, axis=-1, keepdims=not of_vectors) + level))


def deviate(
    potentials: Sequence[Potential],
    systems: Sequence[System],
    settings: DeviationSettings,
    progress: Callable[[int], None] = lambda _: None,
    names: Sequence[str] | None = None,
) -> Iterator[SystemDeviation]:
    """Evaluate all frames of systems with all models, one system after the other.

    Args:
        potentials: At least two models (one suffices for `real_error`). Their type_maps may differ
            in order and in elements that no atom has.
        systems: Opened with the type_map of the first.
        settings: What is computed.
        progress: Called with the number of frames done since the last call.
        names: How messages call the models.

    Raises:
        DataError: If a model does not know an element in use, or labels are missing.
        FrameError: If a frame is bad and `settings.strict`.
    """
    _check(potentials, systems, settings)
    names = names or [f"model {index}" for index in range(len(potentials))]
    _check_elements(potentials, systems, names)
    for system in systems:
        values: list[Floats] = []
        atomic: list[Floats] = []
        bad: list[BadFrame] = []
        for frames in _read(system, potentials, settings, progress):
            found = evaluate_good(
                frames,
                lambda part: _of_frames(potentials, part, settings),
                strict=settings.strict,
            )
            none = np.zeros((0, len(COLUMNS))), np.zeros((0, frames.num_atoms))
            rows, of_atoms = none if found.result is None else found.result
            values.append(with_gaps(rows, found.good, frames.num_frames))
            atomic.append(with_gaps(of_atoms, found.good, frames.num_frames))
            bad += found.bad
        step = system.frame_numbers * settings.frequency
        yield SystemDeviation(
            system.name, step, np.concatenate(values), np.concatenate(atomic), bad
        )


def _check_elements(
    potentials: Sequence[Potential], systems: Sequence[System], names: Sequence[str]
) -> None:
    """Refuse systems whose types do not mean one element, known to every model."""
    first = potentials[0].type_map
    for potential, name in zip(potentials, names, strict=True):
        if potential.type_map == first:
            continue
        for system in systems:
            if isinstance(system, StoredSystem) and system.elements is None:
                raise DataError(
                    f"{system.name} has no type_map.raw, and its type numbers mean other elements "
                    f"for {names[0]} ({' '.join(first)}) than for {name} "
                    f"({' '.join(potential.type_map)})",
                    hint=f"write the elements that they stand for into {system.name}/type_map.raw",
                )
            used = [first[number] for number in system.type_counts()]
            unknown = [element for element in used if element not in potential.type_map]
            if unknown:
                raise DataError(
                    f"{system.name} has {', '.join(unknown)}, which {name} does not know: its "
                    f"type_map is {' '.join(potential.type_map)}",
                    hint="leave the system or the model out",
                )


def _with_types_of(potential: Potential, frames: Frames, elements: Sequence[str]) -> Frames:
    """Return frames whose types count in `elements` with those of a model."""
    own = {element: number for number, element in enumerate(potential.type_map)}
    index = np.array([own.get(element, PADDING) for element in elements], dtype=np.int64)
    return replace(frames, atom_types=translate(frames.atom_types, index))


def _check(
    potentials: Sequence[Potential], systems: Sequence[System], settings: DeviationSettings
) -> None:
    if len(potentials) < 2 and not settings.real_error:
        raise DataError(
            "the deviation of one model is zero",
            hint="give several models (-m a.pt -m b.pt), or --real-error to compare with labels",
        )
    if settings.real_error:
        for system in systems:
            missing = [label for label in _LABELS if not system.has(label)]
            if missing:
                raise DataError(
                    f"{system.name} has no labels of {', '.join(missing)}, which real errors need",
                    hint="leave --real-error out to see how far the models disagree",
                )


def _read(
    system: System,
    potentials: Sequence[Potential],
    settings: DeviationSettings,
    progress: Callable[[int], None],
) -> Iterator[Frames]:
    labels = [*(_LABELS if settings.real_error else ())]
    labels += ["fparam"] if any(potential.dim_fparam for potential in potentials) else []
    labels += ["aparam"] if any(potential.dim_aparam for potential in potentials) else []
    for frames in system.chunks(_FRAMES_PER_READ, labels):
        yield frames
        progress(frames.num_frames)


def _of_frames(
    potentials: Sequence[Potential], frames: Frames, settings: DeviationSettings
) -> tuple[Floats, Floats]:
    """Return the columns (F, 7) and the force deviation of each atom (F, N)."""
    elements = potentials[0].type_map
    predicted = [
        predict_frames(potential, _with_types_of(potential, frames, elements))
        for potential in potentials
    ]
    per_atom_F = 1.0 / frames.real_atoms
    force_mFNX = np.stack([found.force for found in predicted])
    virial_mFY = np.stack(
        [found.virial.reshape(-1, 9) * per_atom_F[:, None] for found in predicted]
    )
    energy_mF = np.stack([found.energy * per_atom_F for found in predicted])
    force, virial, energy = frames.force, frames.virial, frames.energy
    if not settings.real_error:
        force = virial = energy = None
    if virial is not None:
        virial = virial.reshape(-1, 9) * per_atom_F[:, None]
    if energy is not None:
        energy = (energy * per_atom_F)[:, None]
    devi_v = spread(virial_mFY, virial, settings.relative_v, of_vectors=False)
    devi_f = spread(force_mFNX, force, settings.relative, of_vectors=True)
    devi_f = np.where(frames.atom_types >= 0, devi_f, np.nan)
    columns = (
        devi_v.max(axis=1),
        devi_v.min(axis=1),
        np.sqrt(np.square(devi_v).mean(axis=1)),
        np.nanmax(devi_f, axis=1),
        np.nanmin(devi_f, axis=1),
        np.nanmean(devi_f, axis=1),
        spread(energy_mF[..., None], energy, None, of_vectors=True),
    )
    return np.column_stack(columns), devi_f


def write_deviations(
    path: str | os.PathLike[str],
    found: Iterator[SystemDeviation],
    *,
    atomic: bool = False,
) -> list[SystemDeviation]:
    """Write deviations as `dp model-devi` does; the file appears when all are there.

    Bad frames keep their rows, filled with nan; why is said in comments below the system.

    Args:
        path: The file; an older one is replaced.
        found: From `deviate`.
        atomic: Add a column for every atom.
    """
    done: list[SystemDeviation] = []
    with atomic_write(Path(path)) as stream:
        for deviation in found:
            _write_system(stream, deviation, atomic=atomic)
            done.append(deviation)
    return done


def _write_system(stream: IO[bytes], deviation: SystemDeviation, *, atomic: bool) -> None:
    heading = "step".ljust(10) + "".join(name.ljust(19) for name in COLUMNS)
    heading += "atm_devi_f(N)".ljust(19) if atomic else ""
    table = np.column_stack([deviation.step, deviation.values])
    table = np.column_stack([table, deviation.atomic]) if atomic else table
    formats = ["%12d"] + ["%19.6e"] * (table.shape[1] - 1)
    np.savetxt(
        stream,
        table,
        fmt=formats,
        delimiter="",
        header=f"{deviation.system}\n{heading}",
        footer="\n".join(str(frame) for frame in deviation.bad),
    )
