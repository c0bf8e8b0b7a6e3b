"""Systems of deepmd-kit as structures, and files of structures as systems."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import PeriodicBox
from dpa2.data.frames import LABELS, PADDING, IntArray
from dpa2.data.structures.reader import guess_format, is_deepmd, read_structures, split_index
from dpa2.data.structures.structure import VACUUM, LabelKeys, Reading, Structure
from dpa2.data.system import System, count_types, type_index
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError

Key = tuple[tuple[str, ...] | int, bool, frozenset[str]]

_FRAMES_PER_READ = 256
_TAKEN = ("energy", "force", "virial")
# What a model needs to know of a frame beside its atoms.
_PARAMETERS = {"fparam", "aparam"}


def read(path: str, reading: Reading) -> Iterator[Structure]:
    """Yield the frames of all systems below a folder, in an HDF5 file or an LMDB data base.

    Raises:
        DataError: If there is no system, one is faulty, or one does not name its elements.
    """
    for system in open_systems(path, reading.deepmd_names, keep_bad_frames=True):
        for text in system.warnings:
            reading.note(text)
        if reading.keys is not None and (others := _other_arrays(system)):
            reading.note(f"{system.name}: {', '.join(others)} is not read and left out")
        names = reading.deepmd_names or system.type_map or reading.type_names
        if not names:
            raise DataError(
                f"{system.name} has no type_map.raw",
                hint="write one: the element of type 0, 1, ..., one a line; or --type-map 'O H'",
            )
        yield from _structures(system, names, reading)


def _other_arrays(system: System) -> list[str]:
    """Return the names of arrays of a folder that mean nothing here: dipole.npy, spin.npy."""
    known = {"coord", "box", "real_atom_types"}
    known |= {stem for label in LABELS.values() for stem in label.stems}
    files = system.path.glob("set.*/*.npy") if system.path.is_dir() else ()
    return sorted({file.name for file in files if file.stem not in known})


def _structures(system: System, names: Sequence[str], reading: Reading) -> Iterator[Structure]:
    wanted = set(system.labels) if reading.keys is not None else system.labels & _PARAMETERS
    wanted -= {label for label in _TAKEN if not reading.wants(label)}
    for frames in system.chunks(_FRAMES_PER_READ, sorted(wanted)):
        for i in range(frames.num_frames):
            real = frames.atom_types[i] != PADDING
            labels = {}
            for name in wanted:
                value = getattr(frames, name)[i]
                labels[name] = value[real] if LABELS[name].per_atom else value
                if name in _TAKEN:
                    reading.take(name, LABELS[name].stems[0])
            periodic = frames.box is not None
            yield Structure(
                source=f"{system.name} frame {frames.indices[i]}",
                symbols=tuple(names[kind] for kind in frames.atom_types[i][real]),
                coord=frames.coord[i][real],
                box=None if frames.box is None else frames.box[i],
                labels=labels,
                pbc=(periodic, periodic, periodic),
            )


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
        first = structures[0]
        own = list(elements)
        self._structures = structures
        self._frame_numbers = np.array([structure.frame for structure in structures])
        self._types = np.array([own.index(symbol) for symbol in first.symbols], dtype=np.int64)
        self._type_counts = count_types(self._types)
        self._type_index, _ = type_index(name, own, type_map, self._type_counts)
        self.name, self.path = name, path
        self.num_frames, self.num_atoms = len(structures), len(first.symbols)
        self.periodic, self.mixed = first.box is not None, False
        self.labels = frozenset(first.labels)
        self.type_map = own if type_map is None else list(type_map)
        self.warnings = []

    @property
    def files(self) -> Sequence[Path]:
        """The file."""
        return [self.path]

    def _read(self, index: IntArray, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        chosen = [self._structures[i] for i in index.tolist()]
        found = {}
        for name in names:
            held = name in {"coord", "box"}
            rows = [getattr(x, name) if held else x.labels[name] for x in chosen]
            found[name] = np.array([np.ravel(row) for row in rows])
        return found


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
    reading = Reading(path, known_names=type_map or (), keys=keys)
    found = (in_a_box(structure, vacuum, reading) for structure in read_structures(reading))
    groups = grouped(found)
    bare = [key for key in groups if not key[2]]
    if keys is not None and 0 < len(bare) < len(groups):
        reading.note(f"{sum(len(groups.pop(key)) for key in bare)} frames have no labels: left out")
    elements = sorted({x for frames in groups.values() for x in frames[0].symbols})
    systems: list[System] = []
    for number, frames in enumerate(groups.values()):
        name = path if len(groups) == 1 else f"{path}:{formula(frames[0].symbols)}:{number}"
        system = StructureSystem(name, Path(split_index(path)[0]), frames, elements, type_map)
        systems.append(system)
    systems[0].warnings += reading.sentences()
    return systems


def in_a_box(structure: Structure, vacuum: float, reading: Reading) -> Structure:
    """Return a structure whose cell has the same meaning in a data set, which knows no slabs.

    A direction without images gets a cell vector that keeps images `vacuum` apart: for cutoffs
    below, energies, forces and virials are those of the slab. Of a left-handed cell two vectors
    change places: the lattice, the coordinates and the labels stay as they are.

    Args:
        structure: Periodic in any directions.
        vacuum: Å between the atoms and their images.
        reading: Where this is said.
    """
    if structure.box is None:
        return structure
    box = structure.box
    if not all(structure.pbc):
        filled = PeriodicBox(vacuum)(structure.coord, box, np.array(structure.pbc))
        assert filled is not None
        box = filled
        pbc = " ".join("T" if periodic else "F" for periodic in structure.pbc)
        reading.note(
            f"it is periodic in some directions only (pbc {pbc}), which deepmd data cannot say: "
            f"the cell used keeps images in the others {vacuum:g} Å apart, which is right for "
            "cutoffs below that (--vacuum)"
        )
    with np.errstate(invalid="ignore"):  # cells that are not finite are told later
        left_handed = np.linalg.det(box) < 0
    if left_handed:
        box = box[[0, 2, 1]]
        if all(structure.pbc):
            reading.note(
                "its cell is left-handed: the second and third cell vector change places; atoms "
                "and labels stay as they are"
            )
    return replace(structure, box=box, pbc=(True, True, True))


def grouped(structures: Iterable[Structure], *, mixed: bool = False) -> dict[Key, list[Structure]]:
    """Sort structures into systems, in the order of their first appearance.

    Their elements, or where they are mixed the number of atoms, boundaries and labels are equal.
    """
    groups: dict[Key, list[Structure]] = {}
    for structure in structures:
        atoms = len(structure.symbols) if mixed else structure.symbols
        key = (atoms, structure.box is not None, frozenset(structure.labels))
        groups.setdefault(key, []).append(structure)
    return groups


def formula(symbols: Sequence[str]) -> str:
    """Return a formula such as H2O, elements sorted by name."""
    counts = sorted(Counter(symbols).items())
    return "".join(f"{name}{count if count > 1 else ''}" for name, count in counts)
