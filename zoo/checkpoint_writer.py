"""Write checkpoints the way PyTorch does, without torch: numbers are copied, never interpreted."""

import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from schemas.checkpoint.pickle_values import STORAGES, Storage, Tensor

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
