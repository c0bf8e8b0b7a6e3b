"""What a model file is by its content, and whether its name says the same.

A name decides what is done with a file, and some kinds are programs: a file whose name says one
thing and whose content is another is refused, never guessed at.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from schemas.base.errors import CheckpointError
from schemas.checkpoint.archive import LocalFile, entry_names

_SAVEDMODEL_MARK = "saved_model.pb"
_COMPILED_MARKS = ("/extra/metadata.json", "/extra/model.json", "/archive_format", "/aotinductor/")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model file.

    Attributes:
        title: What it is, in words.
        suffixes: How its name may end; the first is the usual one.
        runs: What runs it, if it is a program; empty for data.
    """

    title: str
    suffixes: tuple[str, ...]
    runs: str = ""


CHECKPOINT = Kind("a checkpoint of PyTorch", (".pt",))
TORCHSCRIPT = Kind("a frozen model (TorchScript)", (".pth",), "TorchScript")
COMPILED = Kind("a compiled or exported model", (".pt2", ".pte"), "this machine")
SAVEDMODEL = Kind("a TensorFlow SavedModel", (".savedmodel",), "TensorFlow")
HDF5 = Kind("an HDF5 file", (".dp", ".hlo"))
SAFETENSORS = Kind("a safetensors file", (".safetensors",))
_WITHOUT_MARK = frozenset({".yaml", ".yml", ".onnx"})
_SUFFIXES = _WITHOUT_MARK.union(
    *(k.suffixes for k in (CHECKPOINT, TORCHSCRIPT, COMPILED, SAVEDMODEL, HDF5, SAFETENSORS))
)


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Tell by its content what kind of model file something is; None if it is none of the kinds.

    Nothing in it is run, and no more than its beginning and the names in it are read.

    Raises:
        CheckpointError: It is a device, a pipe or a socket.
    """
    file = Path(path)
    if file.is_dir():
        return SAVEDMODEL if (file / _SAVEDMODEL_MARK).is_file() else None
    try:
        with LocalFile(file) as source:
            head = source.read_at(0, 9)
            if head.startswith(b"PK"):
                return _kind_of_archive(entry_names(source))
    except OSError:
        return None
    if head.startswith(b"\x89HDF"):
        return HDF5
    return SAFETENSORS if head[8:] == b"{" and head[5:8] == b"\0\0\0" else None


def check_name(path: str | os.PathLike[str]) -> Kind | None:
    """Return what kind of model file something is, after comparing that with its name.

    Data whose name ends in nothing known (`model`, `model.ckpt`) pass; programs need their suffix.

    Raises:
        CheckpointError: Name and content disagree; says what to do.
    """
    kind, suffix = kind_of(path), Path(path).suffix.lower()
    if kind is None or suffix in kind.suffixes:
        return kind
    known = suffix in _SUFFIXES
    if not kind.runs and not known:
        return kind
    named = f"its name ends in {suffix}" if suffix else "its name has no ending"
    what = f"{kind.title}, a program that {kind.runs} would run" if kind.runs else kind.title
    remedy = f"rename it to end in {' or '.join(kind.suffixes)}"
    if kind.runs:
        remedy += " to run it; or use the checkpoint (.pt) that it was made from"
    raise CheckpointError(
        f"{path} is {what}, but {named}: it is not opened",
        hint=("if you trust it, " if kind.runs else "") + remedy,
    )


def _kind_of_archive(names: str | None) -> Kind | None:
    if names is None:
        return None
    if "/constants.pkl" in names:
        return TORCHSCRIPT
    if any(mark in names for mark in _COMPILED_MARKS):
        return COMPILED
    return CHECKPOINT if "/data.pkl" in names else None
