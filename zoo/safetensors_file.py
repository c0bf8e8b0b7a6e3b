"""Checkpoints as safetensors files and back: the same tensors, the same model section.

Such a file has no pickle: a JSON header, then numbers. It cannot share a tensor between two names,
so the owner's numbers are written and the other names are listed; what is no tensor is one JSON
text among the metadata. Views, and numbers that repeat (stride 0), are written out.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from schemas.base.errors import CheckpointError, ConversionError
from schemas.base.writing import atomic_write
from schemas.checkpoint.archive import LocalFile
from schemas.checkpoint.header import EXTRA, TensorEntry, read_header
from schemas.checkpoint.pickle_values import ITEM_SIZES, Tensor, TooLargeError, check_tree
from zoo.checkpoint_writer import StoredNumbers, fresh_tensor, owners_of, write_archive

_FORMAT = "dpa-zoo checkpoint 1"
_KEY = "dpa_zoo"
_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_PIECE = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What was written.

    Attributes:
        path: The file.
        tensors: How many tensors it has, each name counted.
        num_bytes: Bytes of the file.
    """

    path: Path
    tensors: int
    num_bytes: int


def to_safetensors(checkpoint: str | os.PathLike[str], target: Path) -> Exchanged:
    """Write a checkpoint's weights and model section as a safetensors file.

    The state of the optimiser, averages and whatever else only a continued run needs are left out.

    Raises:
        CheckpointError: It is no checkpoint, or damaged.
        ConversionError: Its model section holds what JSON cannot say.
        WriteError: The target cannot be written.
    """
    with LocalFile(checkpoint) as source:
        header = read_header(source)
        names = owners_of(header.tensors)
        owners = {name: header.tensors[name] for name in dict.fromkeys(names.values())}
        extra = {"model_params": header.model_params, "train_infos": header.train_infos}
        try:
            text = json.dumps({"format": _FORMAT, "extra": _plain(extra), "names": names})
        except (TypeError, ValueError) as error:
            raise ConversionError(
                f"the model section of {header.name} cannot be written as JSON: {error}",
                hint="keep the .pt file",
            ) from error
        numbers = StoredNumbers(source, header.storages)
        with atomic_write(target) as stream:
            _write(stream, owners, {_KEY: text}, numbers)
    return Exchanged(target, len(names), target.stat().st_size)


def from_safetensors(path: str | os.PathLike[str], target: Path) -> Exchanged:
    """Write a checkpoint from a safetensors file that `to_safetensors` made.

    Raises:
        CheckpointError: It is no safetensors file, damaged, or says nothing about the model.
        WriteError: The target cannot be written.
    """
    path = Path(path)
    with _opened(path) as content:
        described = _description(path, content.metadata() or {})
    offset, header = _header(path)
    names = described["names"]
    tensors: dict[str, Tensor] = {}
    for owner in dict.fromkeys(names.values()):
        dtype = _DTYPES.get(header.get(owner, {}).get("dtype"))
        if dtype is None:
            raise CheckpointError(f"{path} lacks the tensor `{owner}` in a type of PyTorch")
        tensors[owner] = fresh_tensor(str(len(tensors)), dtype, tuple(header[owner]["shape"]))
    state = OrderedDict({EXTRA: described["extra"]})
    state.update((name, tensors[owner]) for name, owner in names.items())
    with LocalFile(path) as file, atomic_write(target) as stream:
        storages = (
            (tensor.storage, _pieces(file, offset, header[name]["data_offsets"]))
            for name, tensor in tensors.items()
        )
        write_archive(stream, {"model": state, "optimizer": {}}, storages)
    return Exchanged(target, len(state) - 1, target.stat().st_size)


def _plain(value: Any) -> Any:
    """Return a value that JSON gives back as it is.

    Raises:
        TypeError: There is none: another kind of value, or a key that is no text.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise TypeError(f"a value of the kind {type(value).__name__}")


def _write(
    stream: IO[bytes],
    tensors: Mapping[str, TensorEntry],
    metadata: Mapping[str, str],
    numbers: StoredNumbers,
) -> None:
    """Write the format: length of the header, header, numbers.

    The safetensors package wants every tensor in memory and a NumPy type for it, which bfloat16
    has not; the format is three lines. Tests read what is written with the package.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    # As the package does: largest items first, so that each tensor begins at a multiple of its own.
    ordered = sorted(tensors.items(), key=lambda item: -ITEM_SIZES[item[1].dtype])
    position = 0
    for name, entry in ordered:
        end = position + entry.num_bytes
        header[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for _, entry in ordered:
        for piece in numbers.pieces(entry):
            stream.write(piece)


def _opened(path: Path) -> Any:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ConversionError(
            "reading safetensors files needs the package safetensors",
            hint="pip install 'dpa-zoo[safetensors]'",
        ) from error
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from error


def _description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(metadata[_KEY])
        check_tree(found)
        usable = found["format"] == _FORMAT and isinstance(found["extra"]["model_params"], dict)
        usable = usable and all(isinstance(owner, str) for owner in found["names"].values())
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError, TooLargeError):
        usable = False
    if not usable:
        raise CheckpointError(
            f"{path} holds tensors, but says nothing of the model that they belong to",
            hint="use a file that `zoo export --safetensors` wrote",
        )
    return dict(found)


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return where the numbers begin, and the tensors, which the package has checked before."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header


def _pieces(file: LocalFile, offset: int, place: list[int]) -> Iterator[bytes]:
    for start in range(place[0], place[1], _PIECE):
        yield file.read_at(offset + start, min(_PIECE, place[1] - start))
