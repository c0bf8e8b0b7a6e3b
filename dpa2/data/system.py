"""A system: frames with the same number of atoms, whatever file format holds them."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from dpa2.data.frames import Frames, IntArray
from dpa2.data.labels import find_label


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
