"""The zip archive of a checkpoint, read strictly in bounded memory."""

import os
import re
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from schemas.base.errors import CheckpointError, DamagedError
from schemas.base.foreign_files import GET_AGAIN, other_format, refuse_special


class RandomAccess(Protocol):
    """What can be read from anywhere."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on: fewer than asked for only at the end."""


class LocalFile:
    """A file on the disk; a context manager.

    Raises:
        CheckpointError: It is a device, a pipe or a socket.
        OSError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        refuse_special(self._path, CheckpointError)
        self._stream = self._path.open("rb")

    @property
    def name(self) -> str:
        """The path as given."""
        return str(self._path)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return os.fstat(self._stream.fileno()).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on."""
        self._stream.seek(offset)
        return self._stream.read(length)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_TAIL = _END.size + _LOCATOR_64.size + _END_64.size
_MOST_ENTRIES = 400_000
_LARGEST_DIRECTORY = 48 * 2**20
_NAME = re.compile(r"[^\x00-\x1f\\:*?\"<>|/]+(/[^\x00-\x1f\\:*?\"<>|/]+)*/?")
_TORCHSCRIPT = b"/constants.pkl"
_PIECE = 4 * 2**20
_DEFLATED = 8
_FOLDER = 0x10
"""The attribute of MS-DOS, which counts whatever system an entry is from."""
_UNTRUSTED = "no program writes such a file; use one from a source that you trust"


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A file within the archive.

    Args:
        name: Its path there.
        header_offset: Where its header begins; the content follows it.
        num_bytes: Bytes of the content.
        crc: Checksum (CRC-32) of the content.
        packed: Bytes in the file, if it is compressed; None if it is not.
    """

    name: str
    header_offset: int
    num_bytes: int
    crc: int
    packed: int | None = None

    @property
    def stored(self) -> int:
        """Bytes that the content takes in the file."""
        return self.num_bytes if self.packed is None else self.packed


def read_directory(source: RandomAccess, *, program: bool = False) -> dict[str, ArchiveEntry]:
    """Return the entries of an archive by name, in the order of its directory.

    Args:
        source: The file; only its end is read.
        program: Whether it may be a TorchScript or compiled model, whose code is compressed.

    Raises:
        CheckpointError: It is truncated, or not written the way PyTorch does it.
    """
    beginning = source.read_at(0, 512) if program else b"PK"
    if not beginning.startswith(b"PK"):
        raise other_format(source.name, source.size, beginning)
    offset, length, count = _directory_place(source)
    if length > _LARGEST_DIRECTORY or count > _MOST_ENTRIES:
        raise _strange(source, f"its directory has {count:,} entries in {length:,} bytes")
    content = source.read_at(offset, length)
    if len(content) < length:
        raise truncated(source)
    if _TORCHSCRIPT in content.lower() and not program:
        raise CheckpointError(
            f"{source.name} is a frozen model (TorchScript), not a checkpoint",
            hint="use the .pt checkpoint from which it was frozen; a frozen model holds one branch",
        )
    entries: dict[str, ArchiveEntry] = {}
    for entry in _entries(source, content, count, program=program):
        # PyTorch finds entries whatever their case.
        if entry.name.casefold() in entries:
            raise _strange(source, f"it has two entries of the name `{entry.name}`")
        entries[entry.name.casefold()] = entry
    found = {entry.name: entry for entry in entries.values()}
    _refuse_overlap(source, list(found.values()), offset)
    return found


def locate(source: RandomAccess, entry: ArchiveEntry) -> int:
    """Return where in the file the content of an entry begins, in bytes.

    The header before it has a length of its own for each entry: 30 bytes and the name are read.

    Raises:
        CheckpointError: There is no such header: the file is damaged.
    """
    name = entry.name.encode()
    header = source.read_at(entry.header_offset, _LOCAL.size + len(name))
    if len(header) < _LOCAL.size + len(name) or header[:4] != b"PK\x03\x04":
        raise damaged(source, f"no entry begins at byte {entry.header_offset:,}")
    *_, name_length, extra_length = _LOCAL.unpack(header[: _LOCAL.size])
    if name_length != len(name) or header[_LOCAL.size :] != name:
        raise damaged(source, f"byte {entry.header_offset:,} is not where `{entry.name}` begins")
    return int(entry.header_offset + _LOCAL.size + name_length + extra_length)


def pieces(source: RandomAccess, entry: ArchiveEntry) -> Iterator[bytes]:
    """Yield the content of an entry piece by piece; the last step checks its checksum.

    Raises:
        CheckpointError: The file ends too early, or the content is not what was written.
    """
    crc, size = 0, 0
    for piece in _stored(source, entry) if entry.packed is None else _unpacked(source, entry):
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        yield piece
    if crc != entry.crc or size != entry.num_bytes:
        raise damaged(source, f"Bad CRC-32 for file '{entry.name}'")


def content_of(source: RandomAccess, entry: ArchiveEntry, most: int) -> bytes:
    """Return the whole content of an entry.

    Args:
        source: The file.
        entry: Of its directory.
        most: Bytes that it may have.

    Raises:
        CheckpointError: It has more, or is not what was written.
    """
    if entry.num_bytes > most:
        raise _strange(source, f"`{entry.name}` has {entry.num_bytes:,} bytes")
    return b"".join(pieces(source, entry))


def check_contents(source: RandomAccess, entries: Iterable[ArchiveEntry]) -> None:
    """Read entries and compare each with its checksum, which PyTorch does not do.

    Raises:
        CheckpointError: The file is damaged; says in which entry.
    """
    for entry in entries:
        for _ in pieces(source, entry):
            pass


def check_program(path: str | os.PathLike[str]) -> None:
    """Compare all of a TorchScript or compiled model with its checksums, before it is run.

    Raises:
        CheckpointError: It is damaged, or not written the way PyTorch does it.
        OSError: It cannot be read.
    """
    with LocalFile(path) as source:
        check_contents(source, read_directory(source, program=True).values())


def _stored(source: RandomAccess, entry: ArchiveEntry) -> Iterator[bytes]:
    position, left = locate(source, entry), entry.stored
    while left:
        piece = source.read_at(position, min(left, _PIECE))
        if not piece:
            raise truncated(source)
        position, left = position + len(piece), left - len(piece)
        yield piece


def _unpacked(source: RandomAccess, entry: ArchiveEntry) -> Iterator[bytes]:
    """Yield what compressed content stands for, one byte more than the entry claims at most."""
    left = entry.num_bytes + 1
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _stored(source, entry):
            rest = packed
            while rest and left and not inflater.eof:
                piece = inflater.decompress(rest, min(left, _PIECE))
                rest, left = inflater.unconsumed_tail, left - len(piece)
                yield piece
    except zlib.error as error:
        raise damaged(source, f"`{entry.name}` cannot be unpacked: {error}") from error


def entry_names(source: RandomAccess) -> str | None:
    """Return the raw directory of a zip archive as lower-case text, to look for names in.

    None where there is none; nothing in it is checked.
    """
    try:
        offset, length, _ = _directory_place(source)
    except CheckpointError:
        return None
    if length > _LARGEST_DIRECTORY:
        return None
    return source.read_at(offset, length).decode("latin1").lower()


def truncated(source: RandomAccess) -> DamagedError:
    """Return the error for a file that ends too early."""
    return DamagedError(
        f"{source.name} is truncated: it begins like a file of PyTorch, but has no end "
        f"({source.size} bytes)",
        hint=GET_AGAIN,
    )


def damaged(source: RandomAccess, what: str) -> DamagedError:
    """Return the error for a file with wrong bytes."""
    return DamagedError(f"{source.name} is damaged: {what}", hint=GET_AGAIN)


def _strange(source: RandomAccess, what: str) -> CheckpointError:
    return CheckpointError(
        f"{source.name} is not written the way PyTorch does it: {what}", hint=_UNTRUSTED
    )


def _directory_place(source: RandomAccess) -> tuple[int, int, int]:
    """Return offset, length and number of entries of the directory."""
    length = min(_TAIL, source.size)
    tail = source.read_at(source.size - length, length)
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\x05\x06":
        raise truncated(source)
    _, disk, _, _, count, size, offset, comment = _END.unpack(tail[-_END.size :])
    end = source.size - _END.size
    locator = tail[: -_END.size][-_LOCATOR_64.size :]
    if locator[:4] == b"PK\x06\x07" and len(tail) == _TAIL:
        end -= _LOCATOR_64.size + _END_64.size
        place = _LOCATOR_64.unpack(locator)[2]
        signature, _, _, _, disk, _, _, count, size, offset = _END_64.unpack(tail[: _END_64.size])
        if signature != b"PK\x06\x06" or place != end:
            raise _strange(source, "its end does not follow its directory")
    if disk or comment or offset + size != end:
        raise _strange(source, "its directory is not at its end")
    if count * _ENTRY.size > size:
        raise _strange(source, f"its directory of {size:,} bytes claims {count:,} entries")
    return offset, size, count


def _entries(
    source: RandomAccess, content: bytes, count: int, *, program: bool
) -> Iterator[ArchiveEntry]:
    position = 0
    for _ in range(count):
        fields = content[position : position + _ENTRY.size]
        if len(fields) < _ENTRY.size or fields[:4] != b"PK\x01\x02":
            raise damaged(source, "its directory is not whole")
        _, made_by, _, flags, method, _, _, crc, packed, size, *rest = _ENTRY.unpack(fields)
        name_length, extra_length, comment_length, disk, _, attributes, offset = rest
        position += _ENTRY.size
        raw = content[position : position + name_length]
        extra = content[position + name_length : position + name_length + extra_length]
        position += name_length + extra_length + comment_length
        name = _name(source, raw)
        size, packed, offset = _wide(source, extra, size, packed, offset)
        kind = stat.S_IFMT(attributes >> 16) if made_by >> 8 == 3 else 0
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _strange(source, f"`{name}` is a link or a device")
        # PyTorch does not fill the memory of what is called a folder, and says nothing.
        is_folder = kind == stat.S_IFDIR or bool(attributes & _FOLDER) or name.endswith("/")
        if is_folder and (size or not name.endswith("/")):
            raise damaged(source, f"its directory calls `{name}` a folder")
        deflated = program and method == _DEFLATED
        if (method or packed != size) and not deflated:
            raise _strange(source, f"`{name}` is compressed")
        if flags & 1 or disk:
            raise _strange(source, f"`{name}` is encrypted or in another file")
        yield ArchiveEntry(name, offset, size, crc, packed if deflated else None)
    if position != len(content):
        raise damaged(source, "its directory is longer than its entries")


def _name(source: RandomAccess, raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise _strange(source, f"the name {raw[:80]!r} of an entry is no text") from error
    if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")) or not name.isprintable():
        raise _strange(source, f"the name {name[:80]!r} of an entry leads out of it")
    return name


def _wide(
    source: RandomAccess, extra: bytes, size: int, packed: int, offset: int
) -> tuple[int, int, int]:
    """Return numbers that do not fit into 32 bits, from the extra field that has them."""
    values = [size, packed, offset]
    wanted = [index for index, value in enumerate(values) if value == 0xFFFFFFFF]
    position = 0
    while wanted and position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        field = extra[position + 4 : position + 4 + length]
        if kind == 1:
            if len(field) < 8 * len(wanted):
                raise damaged(source, "its directory is not whole")
            for index, value in zip(
                wanted, struct.unpack_from(f"<{len(wanted)}Q", field), strict=True
            ):
                values[index] = value
            break
        position += 4 + length
    return values[0], values[1], values[2]


def _refuse_overlap(source: RandomAccess, entries: list[ArchiveEntry], end: int) -> None:
    position = 0
    last = ""
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < position:
            raise _strange(source, f"`{entry.name}` overlaps `{last}`")
        header = _LOCAL.size + len(entry.name.encode())
        position, last = entry.header_offset + header + entry.stored, entry.name
    if position > end:
        raise _strange(source, f"`{last}` does not fit into the file")
