"""Files of structures as systems, for commands that read labelled data of deepmd-kit too."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data import type_map as typemap
from dpa2.data.frames import Frames, IntArray
from dpa2.data.structures.deepmd_files import is_deepmd
from dpa2.data.structures.reader import guess_format, read_structures, split_index
from dpa2.data.structures.structure import (
    VACUUM,
    FileReport,
    LabelKeys,
    ReadOptions,
    Structure,
    in_a_box,
)
from dpa2.data.system import System
from dpa2.data.systems import open_systems


class StructureSystem(System):
    """Frames of a file that share elements, boundaries and labels, in memory.

    Args:
        name: How messages call it.
        path: The file.
        structures: The frames, at least one.
        elements: Names of the types, where no type map is given.
        type_map: Elements of the model.

    Raises:
        DataError: If an element is not in `type_map`.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        structures: Sequence[Structure],
        elements: Sequence[str],
        type_map: Sequence[str] | None,
    ) -> None:
        self._structures = structures
        own = list(elements)
        first = structures[0]
        types = np.array([own.index(symbol) for symbol in first.symbols], dtype=np.int64)
        index, _ = typemap.type_index(name, own, type_map, typemap.count_types(types))
        self._types = typemap.translate(types, index)
        self.name = name
        self.path = path
        self.num_frames = len(structures)
        self.num_atoms = len(first.symbols)
        self.periodic = first.box is not None
        self.mixed = False
        self.labels = frozenset(first.labels)
        self.type_map = own if type_map is None else list(type_map)
        self.warnings = []

    @property
    def frame_numbers(self) -> IntArray:
        """Their numbers in the file, where frames of other systems are between them."""
        return np.array([structure.frame for structure in self._structures], dtype=np.int64)

    @property
    def files(self) -> Sequence[Path]:
        """The file."""
        return [self.path]

    def frames(
        self, indices: Sequence[int] | IntArray, labels: Collection[str] | None = None
    ) -> Frames:
        """Return frames by number, in the given order."""
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        chosen = [self._structures[i] for i in index.tolist()]
        wanted = self.labels if labels is None else self.labels.intersection(labels)
        values: dict[str, Any] = {
            name: np.array([structure.labels[name] for structure in chosen]) for name in wanted
        }
        coord = np.array([structure.coord for structure in chosen])
        return Frames(
            system=self.name,
            indices=self.frame_numbers[index],
            coord=coord.reshape(len(index), self.num_atoms, 3),
            box=np.array([structure.box for structure in chosen]) if self.periodic else None,
            atom_types=self.atom_types(index),
            **values,
        )

    def atom_types(self, indices: Sequence[int] | IntArray) -> IntArray:
        """Return the types (F, N) of frames."""
        return np.tile(self._types, (len(indices), 1))


def open_data(
    paths: Sequence[str],
    type_map: Sequence[str] | None = None,
    *,
    keys: LabelKeys | None = None,
    vacuum: float = VACUUM,
    read_labels: bool = True,
) -> list[System]:
    """Open systems of deepmd-kit, and files of structures as systems.

    Args:
        paths: Folders, HDF5, LMDB; or files in a format of dpdata or ASE, with `@INDEX`.
        type_map: Elements of the model; None keeps each system's own.
        keys: Which keys of files hold the labels; None: by their names.
        vacuum: Å between images of what is periodic in some directions only.
        read_labels: Without, frames of files whose coordinates or labels are not numbers stay.

    Raises:
        DataError: If one cannot be read.
    """
    if all(_holds_systems(path) for path in paths):
        return open_systems(list(paths), type_map, keep_bad_frames=True)
    systems: list[System] = []
    for path in paths:
        if _holds_systems(path):
            systems += open_systems([path], type_map, keep_bad_frames=True)
        else:
            wanted = (keys or LabelKeys()) if read_labels else None
            systems += _of_file(path, type_map, wanted, vacuum)
    return systems


def _holds_systems(path: str) -> bool:
    place = Path(split_index(path)[0])
    if place.is_dir():
        return guess_format(place) == "deepmd"
    return is_deepmd(place) or not place.exists()


def _of_file(
    path: str, type_map: Sequence[str] | None, keys: LabelKeys | None, vacuum: float
) -> list[System]:
    """Return one system for each composition, boundaries and labels in a file."""
    report = FileReport(path)
    options = ReadOptions(known_names=type_map or (), keys=keys)
    groups: dict[tuple[Any, ...], list[Structure]] = {}
    for structure in read_structures(path, options, report):
        boxed = in_a_box(structure, vacuum, report)
        key = (boxed.symbols, boxed.box is None, frozenset(boxed.labels))
        groups.setdefault(key, []).append(boxed)
    bare = [key for key in groups if not key[2]]
    if keys is not None and 0 < len(bare) < len(groups):
        report.note(f"{sum(len(groups.pop(key)) for key in bare)} frames have no labels: left out")
    elements = sorted({symbol for symbols, *_ in groups for symbol in symbols})
    systems: list[System] = []
    for number, ((symbols, *_), frames) in enumerate(groups.items()):
        name = path if len(groups) == 1 else f"{path}:{_formula(symbols)}:{number}"
        system = StructureSystem(name, Path(split_index(path)[0]), frames, elements, type_map)
        systems.append(system)
    systems[0].warnings += report.sentences()
    return systems


def _formula(symbols: Sequence[str]) -> str:
    counts = sorted(Counter(symbols).items())
    return "".join(f"{name}{count if count > 1 else ''}" for name, count in counts)
