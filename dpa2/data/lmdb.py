"""Systems in an LMDB data base: one msgpack record per frame (docs/deepmd-format.md, 2.6)."""

import re
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import check_boxes
from dpa2.data.frames import LABELS, IntArray
from dpa2.data.system import System, add_counts, check_range, count_types, type_index
from schemas.base.errors import DataError
from schemas.base.foreign_files import refuse_special, why_unreadable

_MAGIC = 0xBEEFC0DE
_PAGE_HEAD = 152
_MOST_TYPES = 10_000
_NUMBER_FORMAT = re.compile(r"0?\d{0,3}d")
_FLAG = "find_"
# Names of a record's arrays among those read here: the fields of `Frames`, types as stored.
_FIELDS = {
    **{name: name for name in ("coord", "box", *LABELS)},
    **{stem: label.field for label in LABELS.values() for stem in label.stems},
    "coords": "coord",
    "cells": "box",
    "energies": "energy",
    "forces": "force",
    "virials": "virial",
    "atype": "atom_types",
    "atom_types": "atom_types",
}
_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, MemoryError, OverflowError)

Record = dict[str, Any]


class LmdbDatabase:
    """The records of one data base, decoded on demand.

    Args:
        path: The data base, a folder with `data.mdb` or a single file.

    Raises:
        DataError: If it cannot be opened, or its `__metadata__` is missing or incomplete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = _environment(path.resolve())  # LMDB opens a file once per process
        metadata = self._unpack("__metadata__")
        if "nframes" not in metadata:
            raise DataError(f"{path}: __metadata__ has no nframes")
        ids, named = metadata.get("frame_system_ids"), metadata.get("type_map")
        try:
            self.num_frames = int(metadata["nframes"])
            self.type_map = None if named is None else [str(element) for element in named]
            self._format = str(metadata.get("frame_idx_fmt", "012d"))
            self.system_ids: IntArray | None = (
                None if ids is None else np.asarray(_decode(ids), dtype=np.int64).reshape(-1)
            )
        except _DAMAGED as error:
            raise DataError(f"{path}: __metadata__ is damaged: {error}") from error
        if not _NUMBER_FORMAT.fullmatch(self._format):
            raise DataError(f"{path}: frames cannot be numbered as `{self._format[:40]}`")
        if self.num_frames > self._environment.stat()["entries"]:
            raise DataError(
                f"{path} claims {self.num_frames:,} frames and has fewer records",
                hint="writing it was interrupted, or the copy was cut short",
            )
        if self.num_frames < 1:
            raise DataError(f"{path} has no frames")
        if self.system_ids is not None and len(self.system_ids) != self.num_frames:
            raise DataError(
                f"{path}: frame_system_ids lists {len(self.system_ids)} of {self.num_frames} frames"
            )

    def record(self, number: int) -> Record:
        """Read the arrays of a frame under their names in `Frames`, types as stored.

        A label whose flag `find_NAME` is 0 is a placeholder and left out, as in deepmd-kit; so is
        a cell of zeros, which stands for no periodic boundaries.
        """
        found: Record = {}
        placeholders: set[str] = set()
        for key, value in self._unpack(format(number, self._format)).items():
            name = _FIELDS.get(key.removeprefix(_FLAG), "")
            if key.startswith(_FLAG):
                if name in LABELS and not self._array(number, key, value).any():
                    placeholders.add(name)
            elif value is not None and name:
                found[name] = self._array(number, name, value)
        for name in placeholders & found.keys():
            del found[name]
        self._check_record(number, found)
        if "box" in found and not np.any(found["box"]):
            del found["box"]
        return found

    def _check_record(self, number: int, found: Record) -> None:
        """Make sure that a frame has its atoms; their types become whole numbers (N,)."""
        where = f"{self.path} frame {number}"
        for name, said in (("coord", "coord"), ("atom_types", "atype")):
            if name not in found:
                raise DataError(f"{where} has no {said}")
        types = found["atom_types"] = found["atom_types"].reshape(-1).astype(np.int64)
        if types.max(initial=0) >= _MOST_TYPES:
            raise DataError(
                f"{where} has an atom of type {types.max()}",
                hint="types are small numbers; the record is damaged",
            )
        if found["coord"].size != 3 * types.size:
            raise DataError(
                f"{where} has coord of shape {found['coord'].shape} for {types.size} atom types"
            )

    def _array(self, number: int, name: str, value: Any) -> NDArray[Any]:
        try:
            array = _decode(value)
        except _DAMAGED as error:
            raise DataError(
                f"{self.path} frame {number}: {name} is damaged: {error}",
                hint="write the data base again",
            ) from error
        if array.dtype.kind not in "fiub":
            raise DataError(f"{self.path} frame {number}: {name} holds no numbers")
        return array

    def _unpack(self, key: str) -> Record:
        import lmdb
        import msgpack

        try:
            with self._environment.begin() as transaction:
                raw = transaction.get(key.encode())
        except lmdb.Error as error:
            raise DataError(
                f"{self.path} is damaged: {error}", hint="copy or write it again"
            ) from error
        if raw is None:
            raise DataError(
                f"{self.path} has no record {key}",
                hint="it is no LMDB data set of deepmd-kit, or writing it was interrupted",
            )
        try:
            record = msgpack.unpackb(raw, raw=False)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise DataError(f"{self.path}: record {key} is damaged") from error
        if not isinstance(record, dict):
            raise DataError(f"{self.path}: record {key} is no map")
        return record


class _Kind(NamedTuple):
    """What the frames of one system of a data base have in common."""

    system: int
    num_atoms: int
    periodic: bool
    labels: frozenset[str]

    def texts(self) -> tuple[str, ...]:
        """Return what tells it from other kinds, in words."""
        return (
            f"system {self.system}",
            f"{self.num_atoms} atoms",
            "with cell" if self.periodic else "no cell",
            "+".join(sorted(self.labels)) or "no labels",
        )


class LmdbSystem(System):
    """The frames of a data base that agree in size, boundaries and labels.

    Args:
        database: Where the records are.
        name: How messages call this part.
        kind: What the frames have in common.
        numbers: Record numbers of the frames.
        counts: Atoms of each of the data base's types.
        index: From the data base's type numbers to those of `type_map`.
        type_map: Elements of the model, or of the data base; None where neither names them.
    """

    mixed = True

    def __init__(
        self,
        database: LmdbDatabase,
        name: str,
        kind: _Kind,
        numbers: IntArray,
        counts: IntArray,
        index: IntArray,
        type_map: list[str] | None,
    ) -> None:
        self.name, self.path = name, database.path
        self.num_frames, self.num_atoms = len(numbers), kind.num_atoms
        self.periodic, self.labels = kind.periodic, kind.labels
        self.warnings = []
        self.type_map = type_map
        self._type_index, self._type_counts = index, counts
        self._database = database
        self._numbers = numbers
        self._record_numbers = numbers if len(numbers) < database.num_frames else None

    @property
    def files(self) -> Sequence[Path]:
        """The file of the data base."""
        return [self.path / "data.mdb" if self.path.is_dir() else self.path]

    def _read(self, index: IntArray, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        records = [self._database.record(int(number)) for number in self._numbers[index]]
        found = {}
        for name in names:
            try:
                found[name] = np.stack([record[name].reshape(-1) for record in records])
                if name != "atom_types":
                    found[name] = self._shaped(name, found[name]).reshape(len(records), -1)
            except (ValueError, DataError) as error:
                shapes = sorted({np.shape(record[name]) for record in records})
                raise DataError(
                    f"{self.name}: {name} has shape {' or '.join(map(str, shapes))}, which is not "
                    f"that of {self.num_atoms} atoms"
                ) from error
        return found


def open_lmdb(
    path: Path, type_map: Sequence[str] | None, *, keep_bad_frames: bool = False
) -> list[System]:
    """Open a data base as one system per combination of system, size, boundaries and labels.

    All records are looked at once. The order is that of `frame_system_ids`, then of size.

    Args:
        path: The data base.
        type_map: Elements of the model; None takes those of the data base.
        keep_bad_frames: As `dpa2.data.systems.open_systems`.

    Raises:
        DataError: If it cannot be read, or an element in use is not in `type_map`.
    """
    database = LmdbDatabase(path)
    groups: dict[_Kind, list[int]] = {}
    counts: dict[_Kind, IntArray] = {}
    first: dict[int, str] = {}
    for number in range(database.num_frames):
        record = database.record(number)
        types = record["atom_types"]
        check_range(f"{path} frame {number}", types)
        first |= dict.fromkeys(set(types.tolist()) - first.keys(), f"record {number}")
        if "box" in record and not keep_bad_frames:
            box = np.asarray(record["box"], dtype=np.float64).reshape(1, 3, 3)
            check_boxes(box, str(path), [], first=number)
        system = 0 if database.system_ids is None else int(database.system_ids[number])
        labels = frozenset(LABELS.keys() & record.keys())
        kind = _Kind(system, types.size, "box" in record, labels)
        groups.setdefault(kind, []).append(number)
        found = count_types(types)
        counts[kind] = add_counts(counts.get(kind, found[:0]), found)
    total = reduce(add_counts, counts.values())
    index, note = type_index(
        str(path),
        database.type_map,
        type_map,
        total,
        first_with=first.__getitem__,
        source="type_map",
    )
    names = database.type_map if type_map is None else list(type_map)
    systems: list[System] = []
    for kind in sorted(groups, key=lambda kind: (*kind[:3], sorted(kind.labels))):
        numbers = np.array(groups[kind], dtype=np.int64)
        name = _part_name(path, kind, list(groups))
        systems.append(LmdbSystem(database, name, kind, numbers, counts[kind], index, names))
    if note:
        systems[0].warnings.append(note)
    return systems


def _part_name(path: Path, kind: _Kind, kinds: Sequence[_Kind]) -> str:
    """Name a part of a data base by what tells it from the others."""
    columns = zip(kind.texts(), zip(*(other.texts() for other in kinds), strict=True), strict=True)
    parts = [text for text, column in columns if len(set(column)) > 1]
    return f"{path} ({', '.join(parts)})" if parts else str(path)


def _check_pages(path: Path) -> None:
    """Refuse a data base that is shorter than it says: LMDB maps it, and would die of that.

    Its first two pages say the size of a page, the last page in use and how new they are.
    """
    with path.open("rb") as stream:
        head = stream.read(_PAGE_HEAD)
        magic, size = struct.unpack_from("<I20xI", head.ljust(_PAGE_HEAD, b"\0"), 16)
        if magic != _MAGIC or not size:
            return  # LMDB says what it is
        stream.seek(size)
        heads = [head, stream.read(_PAGE_HEAD)]
    last = max(
        (struct.unpack_from("<QQ", one, 136)[::-1] for one in heads if len(one) == _PAGE_HEAD),
        default=(0, 0),
    )[1]
    if path.stat().st_size < (last + 1) * size:
        raise DataError(
            f"{path} is truncated: {path.stat().st_size:,} bytes of {(last + 1) * size:,}",
            hint="copy it again",
        )


def _decode(value: Any) -> NDArray[Any]:
    """Turn an encoded array, a list or a number into an array."""
    if isinstance(value, dict):
        plain = {key.decode() if isinstance(key, bytes) else key: v for key, v in value.items()}
        if "data" in plain and "type" in plain:
            array = np.frombuffer(plain["data"], dtype=np.dtype(plain["type"]))
            return array.reshape(tuple(plain["shape"])) if "shape" in plain else array
    return np.asarray(value)


@lru_cache(maxsize=16)
def _environment(path: Path) -> Any:
    try:
        import lmdb
        import msgpack  # noqa: F401 - needed for the records; fail here, once, for both
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path} is an LMDB data base, and the package {error.name} is not installed",
            hint="install it: pip install 'dpa-zoo[lmdb]'",
        ) from error
    for place in (path, path / "data.mdb"):
        refuse_special(place, DataError)
    file = path / "data.mdb" if path.is_dir() else path
    _check_pages(file)
    try:
        return lmdb.open(str(path), readonly=True, lock=False, subdir=path.is_dir(), meminit=False)
    except lmdb.Error as error:
        damaged = f"{path} is not a readable LMDB data base", "the file may be damaged or truncated"
        message, hint = why_unreadable(file, error) or damaged
        raise DataError(message, hint=hint) from error
