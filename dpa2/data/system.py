"""A system: frames of one size, whatever format holds them; its overview and fingerprint."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpa2.data.frames import Frames, IntArray, find_label
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

    def has(self, label: str) -> bool:
        """Tell whether all frames carry a label (`energy`, `force`, `atom_energy`, ...)."""
        return find_label(label).field in self.labels

    def width(self, label: str) -> int | None:
        """Return how many numbers per frame or atom a label has (the P of fparam); None: absent."""
        name = find_label(label).field
        if name not in self.labels or self.num_frames == 0:
            return None
        array = getattr(self.frames([0], labels=(name,)), name)
        axis = 2 if find_label(name).per_atom else 1
        return int(np.prod(array.shape[axis:], dtype=np.int64))

    @property
    def frame_numbers(self) -> IntArray:
        """What messages call the frames, (F,): their numbers in the file they come from."""
        return np.arange(self.num_frames, dtype=np.int64)

    @property
    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Files that hold the system's content, in a fixed order."""

    @property
    def copies(self) -> IntArray | None:
        """How often an epoch repeats each frame, (F,) from `numb_copy`; None where always once."""
        return None

    @abstractmethod
    def frames(
        self, indices: Sequence[int] | IntArray, labels: Collection[str] | None = None
    ) -> Frames:
        """Read frames by number, in the given order.

        Args:
            indices: Frame numbers, 0 to `num_frames` - 1.
            labels: Which labels to read where present; None reads all.
        """

    @abstractmethod
    def atom_types(self, indices: Sequence[int] | IntArray) -> IntArray:
        """Read the types (F, N) of frames, in the model's type_map, -1 = padding."""

    def type_counts(self) -> dict[int, int]:
        """Count the atoms of each type over one frame, or over all frames where they differ."""
        counts: dict[int, int] = {}
        indices = range(self.num_frames) if self.mixed else range(min(1, self.num_frames))
        for start in range(0, len(indices), 4096):
            types = self.atom_types(list(indices[start : start + 4096]))
            values, numbers = np.unique(types[types >= 0], return_counts=True)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
                counts[value] = counts.get(value, 0) + number
        return dict(sorted(counts.items()))

    def chunks(self, num_frames: int, labels: Collection[str] | None = None) -> Iterator[Frames]:
        """Read all frames in order, `num_frames` at a time."""
        for start in range(0, self.num_frames, num_frames):
            stop = min(start + num_frames, self.num_frames)
            yield self.frames(np.arange(start, stop, dtype=np.int64), labels)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.num_frames} x {self.num_atoms} atoms>"


@dataclass(frozen=True, slots=True)
class SystemOverview:
    """One system in numbers.

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
        if values and not np.isfinite(values).all():
            notes.append(f"{label} of {system.name} has NaN or infinity")
    return SystemOverview(
        name=system.name,
        num_frames=system.num_frames,
        num_atoms=system.num_atoms,
        periodic=system.periodic,
        mixed=system.mixed,
        composition={_element(system.type_map, t): n for t, n in system.type_counts().items()},
        labels=sorted(system.labels),
        energy_per_atom=_finite((min(energies), max(energies)) if energies else None),
        max_force=max(forces) if forces and np.isfinite(forces).all() else None,
        warnings=notes,
    )


def describe_all(systems: Sequence[System]) -> list[SystemOverview]:
    """Describe every system."""
    return [describe(system) for system in systems]


def _element(type_map: Sequence[str] | None, number: int) -> str:
    return type_map[number] if type_map else f"type {number}"


def _finite(values: tuple[float, float] | None) -> tuple[float, float] | None:
    return values if values is not None and np.isfinite(values).all() else None


def fingerprint(systems: Sequence[System]) -> str:
    """Return a SHA-256 (hexadecimal) over names, sizes and contents of the systems' files.

    Folders above a system do not count, so that moved data keep their fingerprint; the order of the
    systems does not count either, since statistics do not depend on it. Arrays that are not read
    (`hessian.npy`) count, which only errs on the safe side.
    """
    digests: dict[Path, str] = {}
    lines = []
    for system in systems:
        group = system.name.partition("#")[2]
        parts = [f"system {group} {system.num_frames}x{system.num_atoms}"]
        for file in system.files:
            if file not in digests:
                digests[file] = _digest(file)
            name = file.relative_to(system.path) if system.path.is_dir() else file.name
            parts.append(f"{name} {digests[file]}")
        lines.append("\n".join(parts))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _digest(path: Path) -> str:
    return f"{path.stat().st_size} {file_sha256(path)}"
