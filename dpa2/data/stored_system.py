"""A system in the deepmd layout: several sets behind one running frame number."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data import cells
from dpa2.data import type_map as typemap
from dpa2.data.frames import LABELS, FloatArray, Frames, IntArray, Label, find_label
from dpa2.data.store import Store
from dpa2.data.system import System
from schemas.base.errors import DataError

_ALWAYS_READ = {"energy", "force", "virial"}
"""Labels that must be right even where nothing is learned from them."""


class StoredSystem(System):
    """Reads a system from a `Store`; everything but the frames themselves is checked at once.

    Args:
        store: Where texts and arrays are.
        type_map: Elements of the model; None takes the system's own.
        keep_bad_frames: Leave cells without volume to whoever evaluates the frames.

    Raises:
        DataError: If a file is missing or unreadable, shapes disagree, the cell has no volume, or
            an element is not in `type_map`.
    """

    def __init__(
        self,
        store: Store,
        type_map: Sequence[str] | None = None,
        *,
        keep_bad_frames: bool = False,
    ) -> None:
        self.store = store
        self._keep_bad_frames = keep_bad_frames
        self.name = store.name
        self.path = store.path
        self.warnings = []
        self.periodic = not store.has("nopbc")
        self.elements = typemap.read_type_map(store)
        stored_types = typemap.read_types(store)
        self.num_atoms = len(stored_types)
        self._sets = store.sets()
        if not self._sets:
            raise DataError(
                f"{self.name} has no set.* folder",
                hint="a system holds its frames in set.000/coord.npy, set.000/energy.npy, ...",
            )
        self._lengths = [self._count_frames(name) for name in self._sets]
        self._ends = np.cumsum(self._lengths)
        self.num_frames = int(self._ends[-1])
        if self.num_frames == 0:
            raise DataError(f"{self.name} has no frames", hint="its coord.npy have no rows")
        self.mixed = self._is_mixed()
        self._unusable: dict[str, DataError] = {}
        self._stems = self._find_labels()
        self.labels = frozenset(self._stems)
        self._copies = self._read_copies()
        if self.periodic:
            self._check_boxes()
        self._map_types(stored_types, type_map)

    @property
    def files(self) -> Sequence[Path]:
        """Files that hold the system's content, in a fixed order."""
        return self.store.files

    @property
    def copies(self) -> IntArray | None:
        """How often an epoch repeats each frame, from `numb_copy.npy`."""
        return self._copies

    def frames(
        self, indices: Sequence[int] | IntArray, labels: Collection[str] | None = None
    ) -> Frames:
        """Read frames by number, in the given order."""
        index = self._checked_index(indices)
        for name in labels or ():
            if name in self._unusable:
                raise self._unusable[name]
        wanted = self.labels if labels is None else self.labels.intersection(labels)
        box = self._read(index, "box", (3, 3)) if self.periodic else None
        values = {name: self._read_label(index, LABELS[name]) for name in sorted(wanted)}
        return Frames(
            system=self.name,
            indices=index,
            coord=self._read(index, "coord", (self.num_atoms, 3)),
            box=box,
            atom_types=self._types_of(index),
            mixed=self.mixed,
            **values,  # type: ignore[arg-type] # only array fields are labels
        )

    def type_counts(self) -> dict[int, int]:
        """Count the atoms of each type over one frame, or over all frames where they differ."""
        return dict(sorted(self._counts.items()))

    def width(self, label: str) -> int | None:
        """Return how many numbers per frame or atom a label has; None: absent.

        Raises:
            DataError: If its file cannot be used.
        """
        name = find_label(label).field
        if name in self._unusable:
            raise self._unusable[name]
        return super().width(label)

    def atom_types(self, indices: Sequence[int] | IntArray) -> IntArray:
        """Read the types (F, N) of frames."""
        return self._types_of(self._checked_index(indices))

    def _checked_index(self, indices: Sequence[int] | IntArray) -> IntArray:
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if index.size and (index.min() < 0 or index.max() >= self.num_frames):
            raise ValueError(f"{self.name} has frames 0 to {self.num_frames - 1}")
        return index

    def _types_of(self, index: IntArray) -> IntArray:
        if self.mixed:
            stored = self._gather(index, "real_atom_types").reshape(len(index), -1)
            return typemap.translate(stored, self._type_index)
        return np.tile(self._types, (len(index), 1))

    def _read(self, index: IntArray, stem: str, shape: tuple[int, ...]) -> FloatArray:
        values = self._gather(index, stem).astype(np.float64, copy=False)
        return values.reshape(len(index), *shape)

    def _read_label(self, index: IntArray, label: Label) -> FloatArray:
        stem = self._stems[label.field]
        if not label.per_atom:
            return self._read(index, stem, label.shape)
        if label.repeats:
            values = self._read(index, stem, (self.num_atoms, -1))
            return np.array(np.broadcast_to(values, (len(index), self.num_atoms, *label.shape)))
        return self._read(index, stem, (self.num_atoms, *label.shape))

    def _gather(self, index: IntArray, stem: str) -> NDArray[Any]:
        """Collect rows over the sets, in the order of `index`."""
        set_of = np.searchsorted(self._ends, index, side="right")
        parts: list[NDArray[Any]] = []
        places: list[NDArray[np.intp]] = []
        for number in np.unique(set_of).tolist():
            place = np.flatnonzero(set_of == number)
            local = index[place] - (self._ends[number] - self._lengths[number])
            parts.append(self._read_rows(number, stem, local))
            places.append(place)
        if len(parts) == 1:
            return parts[0]
        joined = np.concatenate(parts) if parts else np.zeros((0, 0))
        return joined[np.argsort(np.concatenate(places))] if parts else joined

    def _read_rows(self, number: int, stem: str, rows: IntArray) -> NDArray[Any]:
        name, length = self._sets[number], self._lengths[number]
        shape = self.store.shape(name, stem) if length == 1 else None
        if shape is not None and (not shape or shape[0] != 1):  # one frame, saved without its axis
            whole = self.store.rows(name, stem, None).reshape(1, -1)
            return whole[rows]
        values = self.store.rows(name, stem, rows)
        return values.reshape(len(rows), -1)

    def _count_frames(self, set_name: str) -> int:
        shape = self.store.shape(set_name, "coord")
        where = self.store.where(set_name, "coord")
        if shape is None:
            raise DataError(
                f"{where} is missing", hint="every set needs coord.npy of shape (frames, 3 * atoms)"
            )
        flat = len(shape) == 1
        num_frames = 1 if flat else (shape[0] if shape else 0)
        numbers = int(np.prod(shape if flat else shape[1:], dtype=np.int64))
        if not shape or numbers != 3 * self.num_atoms:
            atoms = f"{numbers // 3} atoms" if numbers % 3 == 0 else f"{numbers} numbers a frame"
            raise DataError(
                f"{where} has shape {shape}, that is {atoms}, "
                f"but type.raw lists {self.num_atoms} atoms; "
                f"expected ({num_frames}, {3 * self.num_atoms})",
                hint="type.raw must list one type per atom of coord.npy",
            )
        return num_frames

    def _check_shape(
        self, number: int, stem: str, widths: Collection[int], *, per_atom: bool
    ) -> int:
        """Make sure that an array fits the frames and return its numbers per frame.

        Args:
            number: Of the set.
            stem: Name of the file.
            widths: Numbers per atom or frame that are right; empty where any is.
            per_atom: Whether widths count per atom.
        """
        name, num_frames = self._sets[number], self._lengths[number]
        where = self.store.where(name, stem)
        shape = self.store.shape(name, stem)
        assert shape is not None
        total = int(np.prod(shape, dtype=np.int64))
        if num_frames == 1 and (not shape or shape[0] != 1):
            rows, found = 1, total
        elif not shape or shape[0] != num_frames:
            rows = shape[0] if shape else 0
            raise DataError(
                f"{where} has {rows} frames, coord.npy has {num_frames} "
                f"(shape {shape}, first axis {num_frames} expected)",
                hint="all arrays of a set must have the same number of frames",
            )
        else:
            rows, found = num_frames, total // max(num_frames, 1)
        each = self.num_atoms if per_atom else 1
        expected = [width * each for width in widths]
        if (expected and found not in expected) or found == 0 or found % each:
            columns = " or ".join(map(str, expected)) or f"k * {each}"
            shown = f"({rows}, {columns})"
            raise DataError(
                f"{where} has shape {shape}, that is {found} columns; expected {shown}",
                hint=f"{self.name} has {self.num_atoms} atoms a frame",
            )
        return found

    def _find_labels(self) -> dict[str, str]:
        """Return the labels that all sets have, with the file name that holds each."""
        stems: dict[str, str] = {}
        for label in LABELS.values():
            for stem in label.stems:
                present = [self.store.shape(name, stem) is not None for name in self._sets]
                if not any(present):
                    continue
                try:
                    self._check_sets(stem, label, present)
                except DataError as error:
                    if label.field in _ALWAYS_READ:
                        raise
                    # deepmd-kit reads such files only where the model or the loss takes them.
                    self._unusable[label.field] = error
                    self.warnings.append(f"{error.message}; it is ignored unless it is needed")
                    break
                if not all(present):
                    self.warnings.append(
                        f"{stem}.npy is in {sum(present)} of {len(present)} sets of {self.name} "
                        "and is ignored; put sets without it into a system of their own"
                    )
                    continue
                stems[label.field] = stem
                break
        return stems

    def _check_sets(self, stem: str, label: Label, present: Sequence[bool]) -> None:
        widths = [
            self._check_shape(number, stem, label.widths(), per_atom=label.per_atom)
            for number, is_there in enumerate(present)
            if is_there
        ]
        if len(set(widths)) > 1:
            raise DataError(
                f"{self.name}: {stem}.npy has {min(widths)} columns in one set and "
                f"{max(widths)} in another",
                hint="all sets of a system must agree",
            )

    def _is_mixed(self) -> bool:
        present = [self.store.shape(name, "real_atom_types") is not None for name in self._sets]
        if any(present) and not all(present):
            missing = self._sets[present.index(False)]
            raise DataError(
                f"{self.store.where(missing, 'real_atom_types')} is missing, other sets have it",
                hint="all sets of a system must be of mixed type, or none",
            )
        for number in range(len(self._sets)) if all(present) else ():
            self._check_shape(number, "real_atom_types", (1,), per_atom=True)
        return all(present)

    def _read_copies(self) -> IntArray | None:
        parts: list[IntArray] = []
        for number, name in enumerate(self._sets):
            if self.store.shape(name, "numb_copy") is None:
                parts.append(np.ones(self._lengths[number], dtype=np.int64))
                continue
            self._check_shape(number, "numb_copy", (1,), per_atom=False)
            parts.append(self.store.rows(name, "numb_copy", None).reshape(-1).astype(np.int64))
            if (parts[-1] < 0).any():
                raise DataError(f"{self.store.where(name, 'numb_copy')} has negative numbers")
        copies = np.concatenate(parts)
        if not copies.any():
            raise DataError(f"{self.name}: numb_copy.npy leaves no frame, all its numbers are 0")
        return None if (copies == 1).all() else copies

    def _check_boxes(self) -> None:
        for number, name in enumerate(self._sets):
            if self.store.shape(name, "box") is None:
                raise DataError(
                    f"{self.store.where(name, 'box')} is missing and there is no file nopbc",
                    hint="add box.npy of shape (frames, 9), or an empty file nopbc in "
                    f"{self.name} if the system has no periodic boundaries",
                )
            self._check_shape(number, "box", (9,), per_atom=False)
            boxes = self.store.rows(name, "box", None).astype(np.float64).reshape(-1, 3, 3)
            cells.check_boxes(
                boxes,
                self.store.where(name, "box"),
                self.warnings,
                first=int(self._ends[number] - self._lengths[number]),
                keep_bad=self._keep_bad_frames,
            )

    def _map_types(self, stored: IntArray, type_map: Sequence[str] | None) -> None:
        """Translate the system's type numbers to those of the model."""
        if self.mixed and self.elements is None:
            raise DataError(
                f"{self.name} is of mixed type and has no type_map.raw",
                hint="write the element names that real_atom_types numbers, one a line",
            )
        counts = self._count_mixed() if self.mixed else typemap.count_types(stored)
        self._type_index, note = typemap.type_index(
            self.name,
            self.elements,
            type_map,
            counts,
            first_with=self._first_with if self.mixed else None,
        )
        self._counts = {
            int(self._type_index[kind]): int(counts[kind]) for kind in np.flatnonzero(counts)
        }
        if not self.mixed:
            self._types = typemap.translate(stored, self._type_index)
        if note:
            self.warnings.append(note)
        self.type_map = list(type_map) if type_map is not None else self.elements

    def _count_mixed(self) -> IntArray:
        """Count the atoms of each type over all frames, set by set."""
        total = np.zeros(0, dtype=np.int64)
        for name in self._sets:
            types = self.store.rows(name, "real_atom_types", None).astype(np.int64)
            typemap.check_range(self.store.where(name, "real_atom_types"), types)
            total = typemap.add_counts(total, typemap.count_types(types))
        return total

    def _first_with(self, kind: int) -> str:
        """Return which frame of a mixed system is the first with a stored type."""
        for number, name in enumerate(self._sets):
            types = self.store.rows(name, "real_atom_types", None)
            rows = np.flatnonzero((types == kind).reshape(self._lengths[number], -1).any(axis=1))
            if len(rows):
                return f"frame {int(self._ends[number]) - self._lengths[number] + int(rows[0])}"
        raise AssertionError(kind)
