"""The zip archive of a PyTorch checkpoint, read strictly.

PyTorch writes uncompressed entries below one folder, one after the other. Python's `zipfile` reads
much more: compressed entries, entries that overlap or have one name, whatever stands before the
archive. Each of these lets a small file stand for a large one, or two programs see different
content in one file, so none of them is accepted here.
"""

import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.checkpoint.random_access import LocalFile, RandomAccess
from schemas.errors import CheckpointError, DamagedError

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
_DOWNLOAD = "the download failed; get the file again"
_UNTRUSTED = "no program writes such a file; use one from a source that you trust"


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A file within the archive.

    Args:
        name: Its path there.
        header_offset: Where its header begins; the content follows it.
        num_bytes: Bytes of the content.
        crc: Checksum (CRC-32) of the content.
    """

    name: str
    header_offset: int
    num_bytes: int
    crc: int


def read_directory(source: RandomAccess) -> dict[str, ArchiveEntry]:
    """Return the entries of an archive by name, in the order of its directory.

    Args:
        source: The file; only its end is read.

    Raises:
        CheckpointError: It is truncated, or not written the way PyTorch does it.
    """
    offset, length, count = _directory_place(source)
    if length > _LARGEST_DIRECTORY or count > _MOST_ENTRIES:
        raise _strange(source, f"its directory has {count:,} entries in {length:,} bytes")
    content = source.read_at(offset, length)
    if len(content) < length:
        raise truncated(source)
    if _TORCHSCRIPT in content:
        raise CheckpointError(
            f"{source.name} is a frozen model (TorchScript), not a checkpoint",
            hint="use the .pt checkpoint from which it was frozen; a frozen model holds one branch",
        )
    entries: dict[str, ArchiveEntry] = {}
    for entry in _entries(source, content, count):
        if entry.name in entries:
            raise _strange(source, f"it has two entries of the name `{entry.name}`")
        entries[entry.name] = entry
    _refuse_overlap(source, list(entries.values()), offset)
    return entries


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Tell by its directory whether a file is a TorchScript archive; False if it cannot be read."""
    try:
        with LocalFile(path) as source:
            offset, length, _ = _directory_place(source)
            return length <= _LARGEST_DIRECTORY and _TORCHSCRIPT in source.read_at(offset, length)
    except (CheckpointError, OSError):
        return False


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
    position, left, crc = locate(source, entry), entry.num_bytes, 0
    while left:
        piece = source.read_at(position, min(left, _PIECE))
        if not piece:
            raise truncated(source)
        crc = zlib.crc32(piece, crc)
        position, left = position + len(piece), left - len(piece)
        yield piece
    if crc != entry.crc:
        raise damaged(source, f"Bad CRC-32 for file '{entry.name}'")


def truncated(source: RandomAccess) -> DamagedError:
    """Return the error for a file that ends too early."""
    return DamagedError(
        f"{source.name} is truncated: it begins like a checkpoint, but has no end "
        f"({source.size} bytes)",
        hint=_DOWNLOAD,
    )


def damaged(source: RandomAccess, what: str) -> DamagedError:
    """Return the error for a file with wrong bytes."""
    return DamagedError(f"{source.name} is damaged: {what}", hint=_DOWNLOAD)


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


def _entries(source: RandomAccess, content: bytes, count: int) -> Iterator[ArchiveEntry]:
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
        if method or packed != size:
            raise _strange(source, f"`{name}` is compressed")
        if flags & 1 or disk:
            raise _strange(source, f"`{name}` is encrypted or in another file")
        yield ArchiveEntry(name, offset, size, crc)
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
        position, last = entry.header_offset + header + entry.num_bytes, entry.name
    if position > end:
        raise _strange(source, f"`{last}` does not fit into the file")
