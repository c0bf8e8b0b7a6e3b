"""What a PyTorch checkpoint of deepmd-kit holds, read without torch and without its numbers.

Such a file is an uncompressed zip archive: `data.pkl` describes everything, `data/<key>` are the
numbers. Reading the directory at its end and `data.pkl` is enough to know the model, its branches
and every tensor, so that this works as well over a network (interop specification, section 4).
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import CheckpointError
from zoo.random_access import LocalFile, RandomAccess, Stream
from zoo.torch_pickle import ITEM_SIZES, Tensor, read_pickle

_EXTRA = "_extra_state"
_DOWNLOAD = "the download failed; get the file again"
_LARGEST_DESCRIPTION = 256 * 2**20
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
DEFAULT_BRANCH = "Default"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor of the file.

    Args:
        name: Its name in the state dict, such as `model.Default.atomic_model.out_bias`.
        shape: Length of each axis.
        dtype: The type of an element, such as `float64`.
        strides: Elements between neighbours along each axis.
        storage: Key of the entry that holds the numbers; shared tensors have the same.
        offset: Bytes of that entry before the first number.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]
    storage: str
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes of its numbers."""
        number = ITEM_SIZES[self.dtype]
        for length in self.shape:
            number *= length
        return number

    @property
    def branch(self) -> str:
        """The branch to which it belongs."""
        return self.name.split(".")[1] if self.name.startswith("model.") else DEFAULT_BRANCH


@dataclass(frozen=True, slots=True)
class StorageEntry:
    """The numbers of one or more tensors: an entry of the archive.

    Args:
        key: Its name below `data/`.
        header_offset: Where its header begins in the file; the numbers follow it.
        num_bytes: Bytes of the numbers.
        crc: Checksum (CRC-32) of them.
    """

    key: str
    header_offset: int
    num_bytes: int
    crc: int


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """What a checkpoint says about itself.

    Args:
        name: The file's name.
        model_params: The model section that it was trained with.
        train_infos: `lr` and `step` of the last step.
        tensors: Tensors of the model by name, without those of the optimiser.
        storages: Entries of the archive by key.
        has_optimizer: Whether the state of the optimiser is in it.
        description: `data.pkl` with tensors as descriptions, for whoever wants the rest.
    """

    name: str
    model_params: dict[str, Any]
    train_infos: dict[str, Any]
    tensors: dict[str, TensorEntry]
    storages: dict[str, StorageEntry]
    has_optimizer: bool
    description: Any = field(repr=False)

    @property
    def branches(self) -> dict[str, dict[str, Any]]:
        """The model section of each branch; of a single-task model, that of `Default`."""
        found = self.model_params.get("model_dict")
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if isinstance(value, dict)}
        return {DEFAULT_BRANCH: self.model_params}

    @property
    def steps(self) -> int | None:
        """Steps that were done; None if the file does not say."""
        step = self.train_infos.get("step")
        return step + 1 if isinstance(step, int) else None


def read_header(source: str | os.PathLike[str] | RandomAccess) -> CheckpointHeader:
    """Read what a checkpoint says about itself; no code in it is run, no number is read.

    Args:
        source: A path, or what can be read from anywhere.

    Raises:
        CheckpointError: It is no checkpoint of deepmd-kit; the message says what it is.
        OSError: It cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        with LocalFile(source) as file:
            return read_header(file)
    archive = _open(source)
    names = [item.filename for item in archive.infolist()]
    described = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(described) != 1:
        raise CheckpointError(
            f"{source.name} is a zip archive, but no checkpoint: it has no data.pkl",
            hint="use a .pt file that deepmd-kit or `zoo train` wrote",
        )
    folder = described[0].partition("/")[0]
    if f"{folder}/constants.pkl" in names or any("/code/" in name for name in names):
        raise CheckpointError(
            f"{source.name} is a frozen TorchScript model, not a checkpoint",
            hint="use the .pt checkpoint from which it was frozen; a frozen model holds one branch",
        )
    return _header(source, archive, folder)


def _header(source: RandomAccess, archive: zipfile.ZipFile, folder: str) -> CheckpointHeader:
    description = read_pickle(_content(source, archive, f"{folder}/data.pkl"), source.name)
    state = description
    if isinstance(description, dict) and isinstance(description.get("model"), dict):
        state = description["model"]
    extra = state.get(_EXTRA) if isinstance(state, dict) else None
    params = extra.get("model_params") if isinstance(extra, dict) else None
    if not isinstance(params, dict):
        keys = ", ".join(map(str, list(description)[:5])) if isinstance(description, dict) else ""
        raise CheckpointError(
            f"{source.name} is a PyTorch file, but does not describe a model of deepmd-kit"
            + (f"; its keys are {keys}" if keys else ""),
            hint="use a .pt file that deepmd-kit or `zoo train` wrote",
        )
    infos = extra.get("train_infos") if isinstance(extra, dict) else None
    storages = {entry.key: entry for entry in _storages(archive, folder)}
    return CheckpointHeader(
        name=source.name,
        model_params=params,
        train_infos=infos if isinstance(infos, dict) else {},
        tensors={entry.name: entry for entry in _tensors(source, state, storages)},
        storages=storages,
        has_optimizer=isinstance(description, dict) and bool(description.get("optimizer")),
        description=description,
    )


def locate(source: RandomAccess, entry: StorageEntry) -> int:
    """Return where in the file the numbers of a storage begin, in bytes.

    The header before them has a length of its own for each entry: 30 bytes must be read.

    Raises:
        CheckpointError: There is no such header: the file is damaged.
    """
    header = source.read_at(entry.header_offset, _LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise CheckpointError(f"{source.name} is damaged at byte {entry.header_offset}")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    return int(entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length)


def _open(source: RandomAccess) -> zipfile.ZipFile:
    beginning = source.read_at(0, 512)
    if not beginning.startswith(b"PK\x03\x04"):
        raise CheckpointError(_what_it_is(source, beginning), hint=_hint(beginning))
    try:
        return zipfile.ZipFile(io.BufferedReader(Stream(source), 65536))
    except (zipfile.BadZipFile, ValueError, struct.error, RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"{source.name} is truncated: it begins like a checkpoint, but has no end "
            f"({source.size} bytes)",
            hint=_DOWNLOAD,
        ) from error


def _what_it_is(source: RandomAccess, beginning: bytes) -> str:
    """Return the sentence that says what a file is instead."""
    text = beginning.lstrip().lower()
    name, size = source.name, source.size
    if not beginning:
        return f"{name} is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{name} is a web page ({size} bytes), not a checkpoint"
    if text.startswith(b"version https://git-lfs"):
        return f"{name} is a pointer of Git LFS ({size} bytes), not the file itself"
    if text.startswith((b"{", b"[")):
        return f"{name} is a JSON text, not a checkpoint"
    if beginning.startswith(b"\x89HDF"):
        return f"{name} is an HDF5 file (a .dp or .hlo model?), not a PyTorch checkpoint"
    if beginning.startswith(b"\x80\x02"):
        return f"{name} is a pickle, perhaps a checkpoint of PyTorch before 1.6"
    return f"{name} is not a PyTorch checkpoint"


def _hint(beginning: bytes) -> str:
    text = beginning.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "fetch it with `git lfs pull`"
    if not text or text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return _DOWNLOAD
    return "use a .pt file that deepmd-kit or `zoo train` wrote"


def _content(source: RandomAccess, archive: zipfile.ZipFile, name: str) -> bytes:
    item = archive.getinfo(name)
    if item.file_size > _LARGEST_DESCRIPTION or item.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"{source.name} is not written the way PyTorch does it")
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{source.name} is damaged: {error}", hint=_DOWNLOAD) from error


def _storages(archive: zipfile.ZipFile, folder: str) -> Iterator[StorageEntry]:
    prefix = f"{folder}/data/"
    for item in archive.infolist():
        if item.filename.startswith(prefix):
            key = item.filename[len(prefix) :]
            yield StorageEntry(key, item.header_offset, item.file_size, item.CRC)


def _tensors(
    source: RandomAccess, state: Mapping[Any, Any], storages: Mapping[str, StorageEntry]
) -> Iterator[TensorEntry]:
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or not isinstance(name, str):
            continue
        item = ITEM_SIZES[tensor.dtype]
        key, offset = tensor.storage.key, item * tensor.offset
        entry = TensorEntry(name, tensor.shape, tensor.dtype, tensor.strides, key, offset)
        stored = storages.get(entry.storage)
        if stored is None or entry.offset + entry.num_bytes > stored.num_bytes:
            raise CheckpointError(f"{source.name} lacks numbers of `{name}`", hint=_DOWNLOAD)
        yield entry
