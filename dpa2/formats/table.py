"""The table of file formats: which suffix is read and written by which function.

Functions are named, not imported: a format costs nothing until a file of it is asked for.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.base.errors import ConversionError
from schemas.base.suggest import nearest
from schemas.checkpoint.kinds import check_name
from schemas.checkpoint.other_files import missing_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpa2.formats.conversion import PortableModel

    Reader = Callable[[Path, str | None], PortableModel]
    Report = Callable[[str], None]
    Writer = Callable[[PortableModel, Path, Report], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        suffixes: How its files' names end; the first is the usual one.
        title: What it is, in words.
        reader: `module:function` taking (path, branch or None) and returning a `PortableModel`;
            None: cannot be read back.
        writer: `module:function` taking (`PortableModel`, path, report); `report` is told what is
            being done if that takes long. It may take the model apart, and raises a
            ConversionError for what the format cannot hold. None: is not written here.
        may_have_branches: Whether a file may hold several branches, of which one is chosen.
    """

    suffixes: tuple[str, ...]
    title: str
    reader: str | None
    writer: str | None
    may_have_branches: bool = False

    @property
    def name(self) -> str:
        """The usual suffix."""
        return self.suffixes[0]

    def read(self, path: Path, branch: str | None) -> "PortableModel":
        """Read a file.

        Raises:
            CheckpointError: If there is no such file, or its name says that it is another kind.
            ConversionError: If files of this format cannot be read back.
            ZooError: What the reader finds wrong.
        """
        check_name(path)
        if self.reader is None:
            raise ConversionError(
                f"{path}: a {self.name} file ({self.title}) cannot be turned back into a model",
                hint=f"give the file it was made from: {', '.join(readable())}",
            )
        if not path.exists() and self is not FORMATS[0]:  # checkpoints may leave out their suffix
            raise missing_file(path)
        function: Reader = _named(self.reader)
        return function(path, branch)

    def check_writable(self, path: Path) -> None:
        """Raise ConversionError if this format is not written here."""
        if self.writer is None:
            raise ConversionError(
                f"{path}: {self.name} files ({self.title}) are read here but not written",
                hint=f"write one of: {', '.join(writable())}",
            )

    def write(self, model: "PortableModel", path: Path, report: "Report" = _silent) -> None:
        """Write a file; `model` must not be used afterwards.

        Raises:
            ConversionError: If this format is not written here, or cannot hold the model.
            WriteError: If the file cannot be written; an older one is untouched.
        """
        self.check_writable(path)
        assert self.writer is not None
        function: Writer = _named(self.writer)
        function(model, path, report)


_HERE = "dpa2.formats.files:"
_JAX = "dpa2.formats.files:"

FORMATS: list[Format] = [
    Format(
        (".pt",),
        "checkpoint of this program and of deepmd-kit's PyTorch backend",
        _HERE + "read_pt",
        _HERE + "write_pt",
        may_have_branches=True,
    ),
    Format(
        (".pth",),
        "TorchScript for deepmd-kit, LAMMPS and C++",
        _HERE + "read_pth",
        _HERE + "write_pth",
    ),
    Format((".dp",), "deepmd-kit's portable model, HDF5", _HERE + "read_dp", _HERE + "write_dp"),
    Format(
        (".yaml", ".yml"),
        "deepmd-kit's portable model, text",
        _HERE + "read_yaml_model",
        _HERE + "write_yaml_model",
    ),
    Format(
        (".pt2",),
        "compiled for this machine (AOTInductor), for deepmd-kit, LAMMPS and C++",
        _HERE + "read_pt2",
        "dpa2.formats.pt2:write_pt2",
    ),
    Format(
        (".pte",),
        "exported program of deepmd-kit",
        _HERE + "read_pt2",
        None,
    ),
    Format(
        (".onnx",),
        "ONNX graph for runtimes without PyTorch",
        None,
        "dpa2.formats.onnx:write_onnx",
    ),
    Format(
        (".savedmodel",),
        "TensorFlow SavedModel for deepmd-kit's JAX backend and LAMMPS",
        None,
        _JAX + "write_savedmodel_model",
    ),
    Format(
        (".hlo",),
        "StableHLO for deepmd-kit's JAX backend",
        _HERE + "read_dp",  # holds what a .dp file holds
        _JAX + "write_hlo_model",
    ),
]
"""Every format; whoever adds one adds a line here, or calls `add_format`."""

_ADDED_FROM_OUTSIDE: list[Format] = []


def add_format(added: Format) -> None:
    """Add a format whose functions live outside `dpa2`; one of the same name is replaced."""
    _ADDED_FROM_OUTSIDE[:] = [known for known in _ADDED_FROM_OUTSIDE if known.name != added.name]
    _ADDED_FROM_OUTSIDE.append(added)


def formats() -> list[Format]:
    """Return every format."""
    return [*FORMATS, *_ADDED_FROM_OUTSIDE]


def readable() -> list[str]:
    """Return the usual suffixes of formats that can be read."""
    return [known.name for known in formats() if known.reader is not None]


def writable() -> list[str]:
    """Return the usual suffixes of formats that can be written."""
    return [known.name for known in formats() if known.writer is not None]


def format_of(path: Path, *, to_write: bool = False) -> Format:
    """Return the format that a name's suffix stands for.

    A file without a known suffix is read as a checkpoint, which says what it is if it is none.

    Args:
        path: The file.
        to_write: Whether it is to be written: then the suffix must say in which format.

    Raises:
        ConversionError: If the suffix says nothing; names the nearest that does.
    """
    suffix = path.suffix.lower()
    for known in formats():
        if suffix in known.suffixes:
            return known
    if not to_write:
        return FORMATS[0]
    near = nearest(suffix, [s for known in formats() for s in known.suffixes])
    guess = f"did you mean {near}? " if near else ""
    raise ConversionError(
        f"{path}: the suffix `{path.suffix}` does not say which format to write",
        hint=f"{guess}formats: {', '.join(writable())}",
    )


def _named(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
