"""A system: frames of one size, whatever format holds them; its types, overview, fingerprint."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import LABELS, PADDING, FloatArray, Frames, IntArray, find_label
from schemas.base.errors import DataError
from schemas.base.writing import file_sha256


class System(ABC):
    """Frames with one number of atoms (padding included) that share their labels.

    Attributes:
        name: How messages call it: the path, as the user wrote it.
        path: The folder or file; `file.h5` for `file.h5#/group`.
        num_frames: Number of frames.
        num_atoms: Atom slots per frame.
        periodic: Whether the frames have a cell.
        mixed: Whether atom types differ from frame to frame.
        labels: Names of the labels present, as in `Frames`.
        type_map: Element of each atom type: the model's where one was given, else the system's own,
            None where there is neither.
        warnings: What was odd but readable, one sentence each.
        copies: How often an epoch repeats each frame, (F,) from `numb_copy`; None: always once.
    """

    name: str
    path: Path
    num_frames: int
    num_atoms: int
    periodic: bool
    mixed: bool
    labels: frozenset[str]
    type_map: list[str] | None
    warnings: list[str]
    copies: IntArray | None = None

    _type_index: IntArray
    """The model's number of each stored type."""
    _type_counts: IntArray
    """Atoms of each stored type: of a frame, or of all frames where they differ."""
    _types: IntArray | None = None
    """The stored types (N,) of every frame; None where they differ."""
    _unusable: Mapping[str, DataError] = MappingProxyType({})
    """What is wrong with the file of a label, said where the label is asked for."""
    _frame_numbers: IntArray | None = None
    _record_numbers: IntArray | None = None

    def has(self, label: str) -> bool:
        """Tell whether all frames carry a label (`energy`, `force`, `atom_energy`, ...)."""
        return find_label(label).field in self.labels

    def width(self, label: str) -> int | None:
        """Return how many numbers per frame or atom a label has (the P of fparam); None: absent.

        Raises:
            DataError: If its file cannot be used.
        """
        name = find_label(label).field
        self._refuse_unusable((name,))
        if name not in self.labels or self.num_frames == 0:
            return None
        array = getattr(self.frames([0], labels=(name,)), name)
        axis = 2 if find_label(name).per_atom else 1
        return int(np.prod(array.shape[axis:], dtype=np.int64))

    @property
    def frame_numbers(self) -> IntArray:
        """What messages call the frames, (F,): their numbers in the file they come from."""
        if self._frame_numbers is not None:
            return self._frame_numbers
        return np.arange(self.num_frames, dtype=np.int64)

    @property
    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Files that hold the system's content, in a fixed order."""

    @abstractmethod
    def _read(self, index: IntArray, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Read the arrays (F, numbers of a frame) of frames: fields of `Frames`, types as stored.

        Of a label that may repeat a number for an atom, one number may stand for all.
        """

    def frames(
        self, indices: Sequence[int] | IntArray, labels: Collection[str] | None = None
    ) -> Frames:
        """Read frames by number, in the given order.

        Args:
            indices: Frame numbers, 0 to `num_frames` - 1.
            labels: Which labels to read where present; None reads all.

        Raises:
            DataError: If the file of a label that is asked for cannot be used.
        """
        self._refuse_unusable(labels or ())
        index = self._checked(indices)
        wanted = self.labels if labels is None else self.labels.intersection(labels)
        names = ["coord", *sorted(wanted)]
        names += [
            name for name, there in (("box", self.periodic), ("atom_types", self.mixed)) if there
        ]
        arrays = dict(self._read(index, names))
        stored = arrays.pop("atom_types", None)
        values: dict[str, Any] = {name: self._shaped(name, x) for name, x in arrays.items()}
        return Frames(
            system=self.name,
            indices=index if self._frame_numbers is None else self._frame_numbers[index],
            atom_types=self._translated(stored, len(index)),
            mixed=self.mixed,
            records=None if self._record_numbers is None else self._record_numbers[index],
            **{"box": None, **values},
        )

    def atom_types(self, indices: Sequence[int] | IntArray) -> IntArray:
        """Read the types (F, N) of frames, in the model's type_map, -1 = padding."""
        index = self._checked(indices)
        stored = self._read(index, ["atom_types"])["atom_types"] if self.mixed else None
        return self._translated(stored, len(index))

    def _refuse_unusable(self, labels: Collection[str]) -> None:
        for name in labels:
            if name in self._unusable:
                raise self._unusable[name]

    def _translated(self, stored: NDArray[Any] | None, num_frames: int) -> IntArray:
        if stored is None:
            assert self._types is not None
            return np.tile(translate(self._types, self._type_index), (num_frames, 1))
        return translate(stored.reshape(num_frames, -1), self._type_index)

    def _shaped(self, name: str, values: NDArray[Any]) -> FloatArray:
        """Return an array (F, numbers of a frame) in the shape of `Frames`."""
        shape: tuple[int, ...] = {"coord": (self.num_atoms, 3), "box": (3, 3)}.get(name, ())
        if name in LABELS:
            label = LABELS[name]
            shape = (self.num_atoms, *label.shape) if label.per_atom else label.shape
            if label.repeats and values.shape[1] == self.num_atoms:
                values = np.repeat(values, label.width or 1, axis=1)
        try:
            return values.astype(np.float64, copy=False).reshape(len(values), *shape)
        except ValueError as error:
            raise DataError(
                f"{self.name}: {name} has {values.shape[1]} numbers a frame, numbers of shape "
                f"{shape} expected"
            ) from error

    def _checked(self, indices: Sequence[int] | IntArray) -> IntArray:
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if index.size and (index.min() < 0 or index.max() >= self.num_frames):
            raise ValueError(f"{self.name} has frames 0 to {self.num_frames - 1}")
        return index

    def type_counts(self) -> dict[int, int]:
        """Count the atoms of each type over one frame, or over all frames where they differ."""
        kinds = np.flatnonzero(self._type_counts).tolist()
        found = {int(self._type_index[kind]): int(self._type_counts[kind]) for kind in kinds}
        return dict(sorted(found.items()))

    def chunks(self, num_frames: int, labels: Collection[str] | None = None) -> Iterator[Frames]:
        """Read all frames in order, `num_frames` at a time."""
        for start in range(0, self.num_frames, num_frames):
            stop = min(start + num_frames, self.num_frames)
            yield self.frames(np.arange(start, stop, dtype=np.int64), labels)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.num_frames} x {self.num_atoms} atoms>"


@dataclass(frozen=True, slots=True)
class SystemOverview:
    """One system in numbers (`zoo data info`).

    Attributes:
        name: The path.
        num_frames: Frames.
        num_atoms: Atom slots per frame, padding included.
        periodic: Whether the frames have a cell.
        mixed: Whether atom types differ from frame to frame.
        composition: Atoms of each element: per frame, or over all frames where they differ.
        labels: Labels present.
        energy_per_atom: Smallest and largest energy in eV per atom; None without energies.
        max_force: Largest force component in eV/Å; None without forces.
        warnings: What is odd, one sentence each.
    """

    name: str
    num_frames: int
    num_atoms: int
    periodic: bool
    mixed: bool
    composition: dict[str, int]
    labels: list[str]
    energy_per_atom: tuple[float, float] | None
    max_force: float | None
    warnings: list[str]


def describe(system: System) -> SystemOverview:
    """Count and measure one system; reads its energies and forces once."""
    energies: list[float] = []
    forces: list[float] = []
    notes = list(system.warnings)
    for frames in system.chunks(256, ("energy", "force")):
        if frames.energy is not None:
            energies += (frames.energy / np.maximum(frames.real_atoms, 1)).tolist()
        if frames.force is not None and frames.force.size:
            forces.append(float(np.abs(frames.force).max()))
    for label, values in (("energy", energies), ("force", forces)):
        if not np.isfinite(values).all():
            notes.append(f"{label} of {system.name} has NaN or infinity")
    finite = bool(energies) and bool(np.isfinite(energies).all())
    names = system.type_map
    return SystemOverview(
        name=system.name,
        num_frames=system.num_frames,
        num_atoms=system.num_atoms,
        periodic=system.periodic,
        mixed=system.mixed,
        composition={
            names[kind] if names else f"type {kind}": count
            for kind, count in system.type_counts().items()
        },
        labels=sorted(system.labels),
        energy_per_atom=(min(energies), max(energies)) if finite else None,
        max_force=max(forces) if forces and np.isfinite(forces).all() else None,
        warnings=notes,
    )


def fingerprint(systems: Sequence[System]) -> str:
    """Return a SHA-256 (hexadecimal) over names, sizes and contents of the systems' files.

    It shows statistics of other data. Folders above a system do not count, so that moved data keep
    their fingerprint; the order of the systems does not count either, since statistics do not
    depend on it. Arrays that are not read (`hessian.npy`) count, which only errs on the safe side.
    """
    digests: dict[Path, str] = {}
    lines = []
    for system in systems:
        group = system.name.partition("#")[2]
        parts = [f"system {group} {system.num_frames}x{system.num_atoms}"]
        for file in system.files:
            if file not in digests:
                digests[file] = f"{file.stat().st_size} {file_sha256(file)}"
            name = file.relative_to(system.path) if system.path.is_dir() else file.name
            parts.append(f"{name} {digests[file]}")
        lines.append("\n".join(parts))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def type_index(
    name: str,
    elements: list[str] | None,
    type_map: Sequence[str] | None,
    counts: IntArray,
    *,
    first_with: Callable[[int], str] | None = None,
    source: str = "type_map.raw",
) -> tuple[IntArray, str | None]:
    """Return the model's number of each type of a system, and a note on what was odd.

    Args:
        name: The system, for messages.
        elements: The system's own element names, None if it has no `type_map.raw`.
        type_map: The model's elements; None keeps the system's numbers.
        counts: How many atoms have each of the system's types.
        first_with: Returns which frame is the first with a type, where they differ in that.
        source: Where the system would name its elements.

    Returns:
        An array that maps the system's numbers to the model's (-1 for an element that no atom uses
        and the model does not have), and a warning or None.

    Raises:
        DataError: If a type number has no name, or an element in use is not in `type_map`.
    """
    names = elements if elements is not None else type_map
    if names is not None and len(counts) > len(names):
        where = source if elements is not None else "the model's type_map"
        count = int(counts[len(names) :].sum())
        raise DataError(
            f"{name} has {count} atoms of type {len(counts) - 1}, but {where} names only "
            f"{len(names)} types ({' '.join(names)})",
            hint="types count from 0",
        )
    if elements is None or type_map is None:
        note = None
        if type_map is not None:
            note = (
                f"{name} has no {source}; its type numbers are taken as positions in the "
                f"model's type_map ({' '.join(type_map)})"
            )
        return np.arange(max(len(counts), len(names or ())), dtype=np.int64), note
    known = {element: number for number, element in enumerate(type_map)}
    index = np.array([known.get(element, -1) for element in elements], dtype=np.int64)
    used = np.pad(counts, (0, len(elements) - len(counts)))
    missing = np.flatnonzero((index < 0) & (used > 0)).tolist()
    if missing:
        listed = ", ".join(f"{elements[kind]} ({used[kind]} atoms)" for kind in missing)
        where = f" (first in {first_with(missing[0])})" if first_with is not None else ""
        raise DataError(
            f"{name} has {listed}{where}, not in the model's type_map ({' '.join(type_map)})",
            hint="add the element to model/type_map, or leave this system out",
        )
    unused = [element for element in elements if element not in known]
    note = (
        f"type_map.raw of {name} names {', '.join(unused)}, which the model's type_map lacks "
        "and no atom uses"
    )
    return index, note if unused else None


def count_types(types: IntArray) -> IntArray:
    """Return how many atoms have each type, padding (-1) left out."""
    return np.bincount(types[types >= 0].reshape(-1)).astype(np.int64)


def add_counts(one: IntArray, other: IntArray) -> IntArray:
    """Return the sum of two histograms of unequal length, such as two `count_types`."""
    longer, shorter = sorted((one, other), key=len, reverse=True)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def check_range(where: str, types: IntArray) -> None:
    """Refuse negative types other than padding.

    Raises:
        DataError: Naming the type.
    """
    if types.size and types.min() < -1:
        raise DataError(f"{where} has the type {types.min()}; -1 is padding, less means nothing")


def translate(types: IntArray, index: IntArray) -> IntArray:
    """Translate type numbers by `index`, keeping -1 (padding)."""
    table = np.append(index, PADDING)
    return table[types.astype(np.int64)]
