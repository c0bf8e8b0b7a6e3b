"""A system in the deepmd layout: several sets behind one running frame number."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import check_boxes
from dpa2.data.frames import LABELS, IntArray, Label
from dpa2.data.store import Store
from dpa2.data.system import System, add_counts, check_range, count_types, type_index
from schemas.base.errors import DataError

_ALWAYS_READ = {"energy", "force", "virial"}
"""Labels that must be right even where nothing is learned from them."""
_TYPES = "real_atom_types"
_TYPES_HINT = "types are 0, 1, ...: positions in type_map.raw"


class StoredSystem(System):
    """Reads a system from a `Store`; everything but the frames themselves is checked at once.

    Args:
        store: Where texts and arrays are.
        type_map: Elements of the model; None takes the system's own.
        keep_bad_frames: Leave cells without volume to whoever evaluates the frames.

    Attributes:
        store: Where texts and arrays are.
        elements: The names of `type_map.raw`; None where there is none.

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
        self.name, self.path = store.name, store.path
        self.warnings = []
        self.periodic = not store.has("nopbc")
        self.elements = _read_type_map(store)
        types = _read_types(store)
        self.num_atoms = len(types)
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
        self._types = None if self.mixed else types
        self._stems = {"atom_types": _TYPES} | self._find_labels()
        self.labels = frozenset(self._stems.keys() & LABELS.keys())
        self.copies = self._read_copies()
        if self.periodic:
            self._check_boxes(keep_bad=keep_bad_frames)
        self._map_types(types, type_map)

    @property
    def files(self) -> Sequence[Path]:
        """Files that hold the system's content, in a fixed order."""
        return self.store.files

    def _read(self, index: IntArray, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Read rows of each array's sets, in the order of `index`."""
        sets = np.searchsorted(self._ends, index, side="right")
        found: dict[str, NDArray[Any]] = {}
        for name in names:
            parts, places = [], []
            for number in np.unique(sets).tolist():
                place = np.flatnonzero(sets == number)
                first = self._ends[number] - self._lengths[number]
                stem = self._stems.get(name, name)
                parts.append(self._rows(number, stem, index[place] - first))
                places.append(place)
            joined = np.concatenate(parts) if parts else np.zeros((0, 0))
            found[name] = joined if len(parts) < 2 else joined[np.argsort(np.concatenate(places))]
        return found

    def _rows(self, number: int, stem: str, rows: IntArray | None = None) -> NDArray[Any]:
        """Read rows of a set's array as (rows, numbers of a frame); None reads all."""
        name, length = self._sets[number], self._lengths[number]
        shape = self.store.shape(name, stem) if length == 1 else None
        if shape is not None and (not shape or shape[0] != 1):  # one frame, saved without its axis
            whole = self.store.rows(name, stem, None).reshape(1, -1)
            return whole if rows is None else whole[rows]
        values = self.store.rows(name, stem, rows)
        return values.reshape(len(values), math.prod(values.shape[1:]))

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

    def _check_shape(self, number: int, stem: str, widths: Collection[int], each: int) -> int:
        """Make sure that an array fits the frames and return its numbers per frame.

        Args:
            number: Of the set.
            stem: Name of the file.
            widths: Numbers per atom or frame that are right; empty where any is.
            each: Number of atoms where widths count per atom, else 1.
        """
        name, num_frames = self._sets[number], self._lengths[number]
        where = self.store.where(name, stem)
        shape = self.store.shape(name, stem)
        assert shape is not None
        total = int(np.prod(shape, dtype=np.int64))
        rows = shape[0] if shape else 0
        if num_frames == 1 and rows != 1:
            rows, found = 1, total
        elif rows != num_frames:
            raise DataError(
                f"{where} has {rows} frames, coord.npy has {num_frames} "
                f"(shape {shape}, first axis {num_frames} expected)",
                hint="all arrays of a set must have the same number of frames",
            )
        else:
            found = total // max(num_frames, 1)
        expected = [width * each for width in widths]
        if (expected and found not in expected) or found == 0 or found % each:
            columns = " or ".join(map(str, expected)) or f"k * {each}"
            raise DataError(
                f"{where} has shape {shape}, that is {found} columns; expected ({rows}, {columns})",
                hint=f"{self.name} has {self.num_atoms} atoms a frame",
            )
        return found

    def _present(self, stem: str) -> list[int]:
        """Return the numbers of the sets that have an array."""
        there = (self.store.shape(name, stem) is not None for name in self._sets)
        return [number for number, is_there in enumerate(there) if is_there]

    def _find_labels(self) -> dict[str, str]:
        """Return the labels that all sets have, with the file name that holds each."""
        stems: dict[str, str] = {}
        for label in LABELS.values():
            for stem in label.stems:
                present = self._present(stem)
                if not present:
                    continue
                try:
                    self._check_sets(stem, label, present)
                except DataError as error:
                    if label.field in _ALWAYS_READ:
                        raise
                    # deepmd-kit reads such files only where the model or the loss takes them.
                    self._unusable = {**self._unusable, label.field: error}
                    self.warnings.append(f"{error.message}; it is ignored unless it is needed")
                    break
                if len(present) == len(self._sets):
                    stems[label.field] = stem
                    break
                self.warnings.append(
                    f"{stem}.npy is in {len(present)} of {len(self._sets)} sets of {self.name} "
                    "and is ignored; put sets without it into a system of their own"
                )
        return stems

    def _check_sets(self, stem: str, label: Label, present: Sequence[int]) -> None:
        each = self.num_atoms if label.per_atom else 1
        widths = [self._check_shape(number, stem, label.widths(), each) for number in present]
        if len(set(widths)) > 1:
            raise DataError(
                f"{self.name}: {stem}.npy has {min(widths)} columns in one set and "
                f"{max(widths)} in another",
                hint="all sets of a system must agree",
            )

    def _is_mixed(self) -> bool:
        present = self._present(_TYPES)
        missing = [name for number, name in enumerate(self._sets) if number not in present]
        if present and missing:
            raise DataError(
                f"{self.store.where(missing[0], _TYPES)} is missing, other sets have it",
                hint="all sets of a system must be of mixed type, or none",
            )
        for number in present:
            self._check_shape(number, _TYPES, (1,), self.num_atoms)
        return bool(present)

    def _read_copies(self) -> IntArray | None:
        parts = [np.ones(length, dtype=np.int64) for length in self._lengths]
        for number in self._present("numb_copy"):
            self._check_shape(number, "numb_copy", (1,), 1)
            parts[number] = self._rows(number, "numb_copy").reshape(-1).astype(np.int64)
            if (parts[number] < 0).any():
                where = self.store.where(self._sets[number], "numb_copy")
                raise DataError(f"{where} has negative numbers")
        copies = np.concatenate(parts)
        if not copies.any():
            raise DataError(f"{self.name}: numb_copy.npy leaves no frame, all its numbers are 0")
        return None if (copies == 1).all() else copies

    def _check_boxes(self, *, keep_bad: bool) -> None:
        for number, name in enumerate(self._sets):
            where = self.store.where(name, "box")
            if self.store.shape(name, "box") is None:
                raise DataError(
                    f"{where} is missing and there is no file nopbc",
                    hint="add box.npy of shape (frames, 9), or an empty file nopbc in "
                    f"{self.name} if the system has no periodic boundaries",
                )
            self._check_shape(number, "box", (9,), 1)
            boxes = self._rows(number, "box").astype(np.float64).reshape(-1, 3, 3)
            first = int(self._ends[number] - self._lengths[number])
            check_boxes(boxes, where, self.warnings, first=first, keep_bad=keep_bad)

    def _map_types(self, types: IntArray, type_map: Sequence[str] | None) -> None:
        """Translate the system's type numbers to those of the model."""
        if self.mixed and self.elements is None:
            raise DataError(
                f"{self.name} is of mixed type and has no type_map.raw",
                hint="write the element names that real_atom_types numbers, one a line",
            )
        self._type_counts = self._count_mixed() if self.mixed else count_types(types)
        self._type_index, note = type_index(
            self.name,
            self.elements,
            type_map,
            self._type_counts,
            first_with=self._first_with if self.mixed else None,
        )
        self.warnings += [note] if note else []
        self.type_map = list(type_map) if type_map is not None else self.elements

    def _count_mixed(self) -> IntArray:
        """Count the atoms of each type over all frames, set by set."""
        total = np.zeros(0, dtype=np.int64)
        for number, name in enumerate(self._sets):
            types = self._rows(number, _TYPES).astype(np.int64)
            check_range(self.store.where(name, _TYPES), types)
            total = add_counts(total, count_types(types))
        return total

    def _first_with(self, kind: int) -> str:
        """Return which frame of a mixed system is the first with a stored type."""
        for number, end in enumerate(self._ends.tolist()):
            rows = np.flatnonzero((self._rows(number, _TYPES) == kind).any(axis=1))
            if len(rows):
                return f"frame {end - self._lengths[number] + int(rows[0])}"
        raise AssertionError(kind)


def _read_type_map(store: Store) -> list[str] | None:
    """Read the element names of `type_map.raw`; None if there is no such file.

    Raises:
        DataError: If the file is empty or names an element twice.
    """
    if not store.has("type_map.raw"):
        return None
    elements = store.words("type_map.raw")
    if not elements:
        raise DataError(
            f"{store.name}/type_map.raw is empty",
            hint="write one element name per line, in the order of the numbers in type.raw",
        )
    repeated = sorted({name for name in elements if elements.count(name) > 1})
    if repeated:
        raise DataError(f"{store.name}/type_map.raw names {', '.join(repeated)} twice")
    return elements


def _read_types(store: Store) -> IntArray:
    """Read the type numbers (N,) of `type.raw`.

    Raises:
        DataError: If the file is missing, empty, or has something else than numbers >= 0.
    """
    where = f"{store.name}/type.raw"
    words = store.words("type.raw") if store.has("type.raw") else None
    if not words:
        what = "missing" if words is None else "empty"
        raise DataError(f"{where} is {what}", hint="it lists the type number of each atom")
    try:
        types = np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        bad = next((x for x in words if not x.lstrip("+-").isdigit()), max(words, key=len)[:40])
        raise DataError(
            f"{where} has {bad!r} where a type number is expected", hint=_TYPES_HINT
        ) from error
    if types.min() < 0:
        raise DataError(f"{where} has the negative type {types.min()}")
    return types
