"""Checkpoints written without torch: the archive, and one branch as a file of its own."""

import math
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from schemas.base.errors import CheckpointError
from schemas.base.writing import atomic_write
from schemas.checkpoint.archive import ArchiveEntry, LocalFile, RandomAccess, pieces
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH, resolve_branch, single_task_section
from schemas.checkpoint.header import EXTRA, CheckpointHeader, TensorEntry, read_header
from schemas.checkpoint.pickle_values import ITEM_SIZES, STORAGES, Storage, Tensor

_FOLDER = "archive"
_ALIGNMENT = 64
_LOCAL_HEADER = 30
_CLASSES = {dtype: name for name, dtype in STORAGES.items()}
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Versions of the container, of its alignment and of torch's serialization, as torch 2.11 writes.
_MARKS = {".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little"}
_VERSION = b"3\n"


def write_archive(
    stream: IO[bytes], content: Any, storages: Iterable[tuple[Storage, Iterator[bytes]]]
) -> None:
    """Write a checkpoint that `torch.load(weights_only=True)` reads.

    Equal content gives equal bytes.

    Args:
        stream: Where to; it can seek.
        content: Dictionaries, lists, tuples, numbers, texts, None and `Tensor`s.
        storages: Every storage of these tensors, and its bytes piece by piece (little-endian).

    Raises:
        TypeError: A value of another kind.
    """
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        pickled = _Pickler().dump(content)
        _add(archive, "data.pkl", len(pickled), [pickled])
        for name, mark in _MARKS.items():
            _add(archive, name, len(mark), [mark])
        for storage, pieces in storages:
            _add(archive, f"data/{storage.key}", None, pieces)
        _add(archive, "version", len(_VERSION), [_VERSION])


def _add(archive: zipfile.ZipFile, name: str, size: int | None, pieces: Iterable[bytes]) -> None:
    """Add an entry whose content begins at a multiple of 64 bytes, so that it can be mapped."""
    item = zipfile.ZipInfo(f"{_FOLDER}/{name}", _EPOCH)
    if size is not None:
        item.file_size = size
    assert archive.fp is not None
    start = archive.fp.tell() + _LOCAL_HEADER + len(item.filename) + 4
    padding = -start % _ALIGNMENT
    item.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(item, "w") as entry:
        for piece in pieces:
            entry.write(piece)
    item.extra = b""  # only the header in place needs the padding, not the directory


class _Pickler:
    """Writes protocol 2, with the few instructions that a checkpoint needs."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.memo: dict[tuple[str, str], int] = {}

    def dump(self, value: Any) -> bytes:
        """Return the pickle of a value."""
        self.parts = [b"\x80\x02"]
        self.memo = {}
        self.save(value)
        return b"".join([*self.parts, b"."])

    def save(self, value: Any) -> None:
        """Write a value."""
        put = self.parts.append
        match value:
            case None:
                put(b"N")
            case bool():
                put(b"\x88" if value else b"\x89")
            case int():
                put(_integer(value))
            case float():
                put(b"G" + struct.pack(">d", value))
            case str():
                text = value.encode()
                self.once("text", value, b"X" + struct.pack("<I", len(text)) + text)
            case Tensor():
                self.tensor(value)
            case Mapping():
                self.mapping(value)
            case list():
                put(b"](")
                self.each(value)
                put(b"e")
            case tuple():
                put(b"(")
                self.each(value)
                put(b"t")
            case _:
                raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")

    def each(self, values: Iterable[Any]) -> None:
        """Write values one after the other."""
        for value in values:
            self.save(value)

    def mapping(self, value: Mapping[Any, Any]) -> None:
        """Write a dictionary."""
        if isinstance(value, OrderedDict):
            self.name("collections", "OrderedDict")
            self.parts.append(b")R(")
        else:
            self.parts.append(b"}(")
        for pair in value.items():
            self.each(pair)
        self.parts.append(b"u")

    def tensor(self, value: Tensor) -> None:
        """Write the call that rebuilds a tensor; its storage is named, not written."""
        storage = value.storage
        self.name("torch._utils", "_rebuild_tensor_v2")
        self.parts.append(b"((")
        self.save("storage")
        self.name("torch", _CLASSES[storage.dtype])
        self.each((storage.key, "cpu", storage.size))
        self.parts.append(b"tQ")
        self.each((value.offset, value.shape, value.strides, False))
        self.mapping(OrderedDict())
        self.parts.append(b"tR")

    def name(self, module: str, attribute: str) -> None:
        """Write the name of a class or function."""
        self.once("name", f"{module}.{attribute}", f"c{module}\n{attribute}\n".encode())

    def once(self, kind: str, value: str, written: bytes) -> None:
        """Write a text or a name, the second time a reference to the first."""
        number = self.memo.get((kind, value))
        if number is not None:
            self.parts.append(_numbered(b"h", b"j", number))
            return
        number = self.memo[kind, value] = len(self.memo)
        self.parts += [written, _numbered(b"q", b"r", number)]


def _numbered(short: bytes, long: bytes, number: int) -> bytes:
    return short + bytes([number]) if number < 256 else long + struct.pack("<I", number)


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    length = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


@dataclass(frozen=True, slots=True)
class BranchFile:
    """What was written.

    Attributes:
        path: The file.
        branch: The branch's exact name in the file that it comes from.
        type_map: Element of each type.
        tensors: How many tensors it has; names of one tensor count each.
        tensor_bytes: Bytes of their numbers; a tensor with several names counts once.
    """

    path: Path
    branch: str
    type_map: list[str]
    tensors: int
    tensor_bytes: int


class StoredNumbers:
    """Reads tensors; checksums are verified before the last bytes are given.

    Args:
        source: The file.
        storages: Its entries with numbers by key.
    """

    def __init__(self, source: RandomAccess, storages: Mapping[str, ArchiveEntry]) -> None:
        self._source = source
        self._storages = storages
        self._last: tuple[str, bytes] = ("", b"")

    def pieces(self, tensor: TensorEntry) -> Iterator[bytes]:
        """Yield the numbers of a tensor, one after the other in the order of its axes.

        Raises:
            CheckpointError: They are not what was written (CRC-32).
        """
        entry = self._storages[tensor.storage]
        whole = tensor.offset == 0 and tensor.num_bytes == entry.num_bytes
        if whole and tensor.strides == contiguous_strides(tensor.shape):
            yield from pieces(self._source, entry)
        elif tensor.num_bytes:
            yield self._view(tensor).tobytes()

    def _view(self, tensor: TensorEntry) -> "np.ndarray[tuple[int, ...], np.dtype[np.void]]":
        if self._last[0] != tensor.storage:
            content = b"".join(pieces(self._source, self._storages[tensor.storage]))
            self._last = tensor.storage, content
        item = ITEM_SIZES[tensor.dtype]
        return np.ndarray(
            tensor.shape,
            np.dtype(f"V{item}"),
            self._last[1],
            tensor.offset,
            tuple(item * stride for stride in tensor.strides),
        )


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a tensor whose numbers follow one another."""
    return tuple(math.prod(max(1, n) for n in shape[axis + 1 :]) for axis in range(len(shape)))


def fresh_tensor(key: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Return the description of a tensor that has a storage of its own."""
    return Tensor(Storage(key, dtype, math.prod(shape)), 0, shape, contiguous_strides(shape))


def owners_of(tensors: Mapping[str, TensorEntry]) -> dict[str, str]:
    """Return for each name the first one of the same tensor, whose numbers are written."""
    first: dict[Any, str] = {}
    places = {name: entry.place if entry.num_bytes else name for name, entry in tensors.items()}
    return {name: first.setdefault(place, name) for name, place in places.items()}


def tensors_of(header: CheckpointHeader, branch: str) -> dict[str, TensorEntry]:
    """Return the tensors of a branch by name, without `model.<branch>.` before it.

    Raises:
        CheckpointError: It has none.
    """
    found = header.tensors_of(branch)
    if not found:
        raise CheckpointError(
            f"{header.name} has no weights of the branch `{branch}`",
            hint="the file is damaged or was written by another program",
        )
    return found


def extract_branch(
    path: Path, branch: str | None, target: Path, *, label: str | None = None
) -> BranchFile:
    """Write a branch of a file on the disk as a single-task checkpoint; see `write_branch`.

    Args:
        path: A checkpoint (`.pt`) of this project or of deepmd-kit.
        branch: Name or alias; may be None where there is only one.
        target: The file to write.
        label: What messages about branches call the file; None: its path.

    Raises:
        CheckpointError: The file or the branch cannot be used.
        OSError: The file cannot be read.
        WriteError: The target cannot be written.
    """
    with LocalFile(path) as source:
        header = read_header(source)
        name = resolve_branch(label or path, header.model_params, branch)
        return write_branch(source, header, name, target)


def write_branch(
    source: RandomAccess, header: CheckpointHeader, branch: str, target: Path
) -> BranchFile:
    """Write a branch as a single-task checkpoint that deepmd-kit and this program read.

    Weights, statistics and the model section are kept; the state of the optimiser, averages and
    whatever else only a continued run needs are left out.

    Args:
        source: The multi-task (or single-task) checkpoint.
        header: What it says about itself.
        branch: The exact name (see `schemas.checkpoint.branch_names`).
        target: The file to write; one that is there is replaced once the new one is complete.

    Raises:
        CheckpointError: The branch has no tensors, or numbers are not what was written (CRC-32).
        WriteError: The file cannot be written.
    """
    entries = tensors_of(header, branch)
    section = single_task_section(header.model_params, branch)
    step, rate = header.train_infos.get("step"), header.train_infos.get("lr")
    infos = {"lr": float(rate or 0.0), "step": int(step or 0)}
    state: OrderedDict[str, Any] = OrderedDict()
    state[EXTRA] = {"model_params": section, "train_infos": infos}
    names = owners_of(entries)
    tensors = {
        owner: fresh_tensor(str(number), entries[owner].dtype, entries[owner].shape)
        for number, owner in enumerate(dict.fromkeys(names.values()))
    }
    for name, owner in names.items():
        state[f"model.{SINGLE_TASK_BRANCH}.{name}"] = tensors[owner]
    numbers = StoredNumbers(source, header.storages)
    storages = (
        (tensor.storage, numbers.pieces(entries[owner])) for owner, tensor in tensors.items()
    )
    with atomic_write(target) as stream:
        # deepmd-kit's --init-model wants the key `optimizer`, and does not look at what is in it.
        write_archive(stream, {"model": state, "optimizer": {}}, storages)
    type_map = section.get("type_map")
    return BranchFile(
        target,
        branch,
        [str(element) for element in type_map] if isinstance(type_map, list) else [],
        len(entries),
        sum(entries[owner].num_bytes for owner in tensors),
    )
