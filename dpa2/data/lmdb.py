"""Systems in an LMDB data base: one msgpack record per frame (docs/deepmd-format.md, 2.6)."""

import re
import struct
from collections.abc import Collection, Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data import cells
from dpa2.data import type_map as typemap
from dpa2.data.frames import LABELS, FloatArray, Frames, IntArray, Label
from dpa2.data.system import System
from schemas.base.errors import DataError
from schemas.base.foreign_files import refuse_special, why_unreadable

_MAGIC = 0xBEEFC0DE
_PAGE_HEAD = 152
_MOST_TYPES = 10_000
_NUMBER_FORMAT = re.compile(r"0?\d{0,3}d")
_RENAMED = {
    "coords": "coord",
    "cells": "box",
    "energies": "energy",
    "forces": "force",
    "virials": "virial",
    "atom_types": "atype",
}
_FIELD_OF_STEM = {stem: label.field for label in LABELS.values() for stem in label.stems}

_FLAG = "find_"

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
        ids = metadata.get("frame_system_ids")
        try:
            self.num_frames = int(metadata["nframes"])
            named = metadata.get("type_map")
            self.type_map = None if named is None else [str(element) for element in named]
            self._format = str(metadata.get("frame_idx_fmt", "012d"))
            self.system_ids: IntArray | None = (
                None if ids is None else np.asarray(_decode(ids), dtype=np.int64).reshape(-1)
            )
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
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
        """Read one frame: arrays `coord`, `box`, `atype` and labels under their `Frames` names.

        A label whose flag `find_NAME` is 0 is a placeholder and left out, as in deepmd-kit.
        """
        raw = self._unpack(format(number, self._format))
        found: Record = {}
        placeholders: set[str] = set()
        for key, value in raw.items():
            name = _field(key.removeprefix(_FLAG))
            if key.startswith(_FLAG):
                if name in LABELS and not self._array(number, key, value).any():
                    placeholders.add(name)
            elif value is not None and (name in LABELS or name in {"coord", "box", "atype"}):
                found[name] = self._array(number, name, value)
        for name in placeholders & found.keys():
            del found[name]
        for name in ("coord", "atype"):
            if name not in found:
                raise DataError(f"{self.path} frame {number} has no {name}")
        found["atype"] = found["atype"].reshape(-1).astype(np.int64)
        if found["atype"].max(initial=0) >= _MOST_TYPES:
            raise DataError(
                f"{self.path} frame {number} has an atom of type {found['atype'].max()}",
                hint="types are small numbers; the record is damaged",
            )
        if found["coord"].size != 3 * found["atype"].size:
            raise DataError(
                f"{self.path} frame {number} has coord of shape {found['coord'].shape} "
                f"for {found['atype'].size} atom types"
            )
        box = found.get("box")
        if box is not None and not np.any(box):
            del found["box"]  # an all-zero cell stands for no periodic boundaries
        return found

    def _array(self, number: int, name: str, value: Any) -> NDArray[Any]:
        try:
            array = _decode(value)
        except (ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
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


class LmdbSystem(System):
    """The frames of a data base that agree in size, boundaries and labels.

    Args:
        database: Where the records are.
        name: How messages call this part.
        numbers: Record numbers of the frames.
        periodic: Whether they have a cell.
        labels: Labels that all of them have.
        counts: Atoms of each of the data base's types.
        type_index: From the data base's type numbers to those of `type_map`.
        type_map: Elements of the model, or of the data base; None where neither names them.
    """

    mixed = True

    def __init__(
        self,
        database: LmdbDatabase,
        name: str,
        numbers: IntArray,
        *,
        periodic: bool,
        labels: frozenset[str],
        counts: IntArray,
        type_index: IntArray,
        type_map: list[str] | None,
    ) -> None:
        self.name = name
        self.path = database.path
        self.num_frames = len(numbers)
        self.num_atoms = int(database.record(int(numbers[0]))["atype"].size)
        self.periodic = periodic
        self.labels = labels
        self.warnings = []
        self.type_map = type_map
        self._database = database
        self._numbers = numbers
        self._type_index = type_index
        self._counts = counts

    def type_counts(self) -> dict[int, int]:
        """Count the atoms of each type over all frames."""
        kinds = np.flatnonzero(self._counts).tolist()
        return dict(sorted((int(self._type_index[k]), int(self._counts[k])) for k in kinds))

    @property
    def files(self) -> Sequence[Path]:
        """The file of the data base."""
        return [self.path / "data.mdb" if self.path.is_dir() else self.path]

    def frames(
        self, indices: Sequence[int] | IntArray, labels: Collection[str] | None = None
    ) -> Frames:
        """Read frames by number, in the given order."""
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        records = [self._database.record(int(self._numbers[i])) for i in index]
        wanted = self.labels if labels is None else self.labels.intersection(labels)
        values = {name: self._read_label(records, LABELS[name]) for name in sorted(wanted)}
        return Frames(
            system=self.name,
            indices=index,
            records=self._numbers[index]
            if len(self._numbers) < self._database.num_frames
            else None,
            coord=self._join(records, "coord", (self.num_atoms, 3)),
            box=self._join(records, "box", (3, 3)) if self.periodic else None,
            atom_types=self._types(records),
            mixed=self.mixed,
            **values,  # type: ignore[arg-type] # only array fields are labels
        )

    def atom_types(self, indices: Sequence[int] | IntArray) -> IntArray:
        """Read the types (F, N) of frames."""
        numbers = self._numbers[np.asarray(indices, dtype=np.int64)]
        return self._types([self._database.record(int(number)) for number in numbers])

    def _types(self, records: Sequence[Record]) -> IntArray:
        stored = np.stack([record["atype"] for record in records])
        return typemap.translate(stored, self._type_index)

    def _read_label(self, records: Sequence[Record], label: Label) -> FloatArray:
        if not label.per_atom:
            return self._join(records, label.field, label.shape)
        shape = (self.num_atoms, *label.shape)
        if label.repeats and all(np.size(r[label.field]) == self.num_atoms for r in records):
            values = self._join(records, label.field, (self.num_atoms, 1))
            return np.array(np.broadcast_to(values, (len(records), *shape)))
        return self._join(records, label.field, shape)

    def _join(self, records: Sequence[Record], name: str, shape: tuple[int, ...]) -> FloatArray:
        try:
            rows = [np.asarray(record[name], dtype=np.float64).reshape(shape) for record in records]
            return np.stack(rows)
        except (ValueError, TypeError) as error:
            found = sorted({np.shape(record[name]) for record in records})
            raise DataError(
                f"{self.name}: {name} has shape {' or '.join(map(str, found))}, "
                f"numbers of shape {shape} expected"
            ) from error


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
    groups: dict[tuple[int, int, bool, frozenset[str]], list[int]] = {}
    counts_of: dict[tuple[int, int, bool, frozenset[str]], IntArray] = {}
    first: dict[int, str] = {}
    for number in range(database.num_frames):
        record = database.record(number)
        types = record["atype"]
        typemap.check_range(f"{path} frame {number}", types)
        first |= dict.fromkeys(set(types.tolist()) - first.keys(), f"record {number}")
        if "box" in record and not keep_bad_frames:
            box = np.asarray(record["box"], dtype=np.float64).reshape(1, 3, 3)
            cells.check_boxes(box, str(path), [], first=number)
        system_id = 0 if database.system_ids is None else int(database.system_ids[number])
        labels = frozenset(LABELS.keys() & record.keys())
        key = (system_id, types.size, "box" in record, labels)
        groups.setdefault(key, []).append(number)
        found = typemap.count_types(types)
        counts_of[key] = typemap.add_counts(counts_of.get(key, found[:0]), found)
    counts = reduce(typemap.add_counts, counts_of.values())
    index, note = typemap.type_index(
        str(path),
        database.type_map,
        type_map,
        counts,
        first_with=first.__getitem__,
        source="type_map",
    )
    systems: list[System] = [
        LmdbSystem(
            database,
            _part_name(path, key, list(groups)),
            np.array(groups[key], dtype=np.int64),
            periodic=key[2],
            labels=key[3],
            counts=counts_of[key],
            type_index=index,
            type_map=database.type_map if type_map is None else list(type_map),
        )
        for key in sorted(groups, key=lambda key: (*key[:3], sorted(key[3])))
    ]
    if note:
        systems[0].warnings.append(note)
    return systems


def _part_name(
    path: Path,
    key: tuple[int, int, bool, frozenset[str]],
    keys: Sequence[tuple[int, int, bool, frozenset[str]]],
) -> str:
    """Name a part of a data base by what tells it from the others."""
    texts = (
        f"system {key[0]}",
        f"{key[1]} atoms",
        "with cell" if key[2] else "no cell",
        "+".join(sorted(key[3])) or "no labels",
    )
    parts = [text for i, text in enumerate(texts) if len({other[i] for other in keys}) > 1]
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


def _field(key: str) -> str:
    """Return the name of a key of a record among the fields of `Frames`, if it is one of them."""
    name = _RENAMED.get(key, key)
    return _FIELD_OF_STEM.get(name, name)


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
    _check_pages(path / "data.mdb" if path.is_dir() else path)
    try:
        return lmdb.open(str(path), readonly=True, lock=False, subdir=path.is_dir(), meminit=False)
    except lmdb.Error as error:
        file = path / "data.mdb" if path.is_dir() else path
        damaged = f"{path} is not a readable LMDB data base", "the file may be damaged or truncated"
        message, hint = why_unreadable(file, error) or damaged
        raise DataError(message, hint=hint) from error
