"""The table of file formats: what each is, and the module that reads, writes and runs it.

Modules are named, not imported: a format costs nothing until a file of it is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.base.errors import ConversionError
from schemas.base.foreign_files import missing_file
from schemas.base.names import nearest
from schemas.checkpoint.kinds import check_name

if TYPE_CHECKING:
    import torch

    from dpa2.formats.conversion import PortableModel
    from dpa2.formats.engine import Engine

Report = Callable[[str], None]


def silent(_: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        suffixes: How its files' names end; the first is the usual one.
        title: What it is, in words.
        module: Where its functions are: `read(path, branch)` returns a `PortableModel`;
            `write(portable, path, report, **options)` writes one, may take the model apart, tells
            `report` what is being done if that takes long, and raises a ConversionError for what
            the format cannot hold; `run(path, device)` returns an `Engine`.
        reads: Whether the weights in a file can be read.
        writes: Whether it is written here.
        runs: Whether a file holds a program, which is evaluated as it is.
        may_have_branches: Whether a file may hold several branches, of which one is chosen.
    """

    suffixes: tuple[str, ...]
    title: str
    module: str
    reads: bool = True
    writes: bool = True
    runs: bool = False
    may_have_branches: bool = False

    @property
    def name(self) -> str:
        """The usual suffix."""
        return self.suffixes[0]

    def function(self, name: str) -> Any:
        """Return `read`, `write` or `run` of the format."""
        return getattr(import_module(self.module), name)

    def read(self, path: Path, branch: str | None) -> "PortableModel":
        """Read a file.

        Raises:
            CheckpointError: If there is no such file, or its name says that it is another kind.
            ConversionError: If files of this format cannot be read back.
            ZooError: What the reader finds wrong.
        """
        check_name(path)
        if not self.reads:
            raise ConversionError(
                f"{path}: a {self.name} file ({self.title}) cannot be turned back into a model",
                hint=f"give the file it was made from: {', '.join(readable())}",
            )
        if not path.exists() and self is not FORMATS[0]:  # checkpoints may leave out their suffix
            raise missing_file(path)
        found: PortableModel = self.function("read")(path, branch)
        return found

    def check_writable(self, path: Path) -> None:
        """Raise ConversionError if this format is not written here."""
        if not self.writes:
            raise ConversionError(
                f"{path}: {self.name} files ({self.title}) are read here but not written",
                hint=f"write one of: {', '.join(writable())}",
            )

    def write(
        self, model: "PortableModel", path: Path, report: Report = silent, **options: Any
    ) -> None:
        """Write a file; `model` must not be used afterwards.

        Raises:
            ConversionError: If this format is not written here, or cannot hold the model.
            WriteError: If the file cannot be written; an older one is untouched.
        """
        self.check_writable(path)
        self.function("write")(model, path, report, **options)

    def run(self, path: Path, device: "torch.device") -> "Engine":
        """Load the program in a file, which then runs: only open files that you trust.

        Raises:
            CheckpointError: If it is damaged, is none of an energy model, or cannot run here.
        """
        if not path.exists():
            raise missing_file(path)
        found: Engine = self.function("run")(path, device)
        return found


FORMATS: list[Format] = [
    Format(
        (".pt",),
        "checkpoint of this program and of deepmd-kit's PyTorch backend",
        "dpa2.formats.checkpoint",
        may_have_branches=True,
    ),
    Format(
        (".pth",),
        "TorchScript for deepmd-kit, LAMMPS and C++",
        "dpa2.formats.torchscript",
        runs=True,
    ),
    Format((".dp",), "deepmd-kit's portable model, HDF5", "dpa2.formats.dictionary_files"),
    Format((".yaml", ".yml"), "deepmd-kit's portable model, text", "dpa2.formats.dictionary_files"),
    Format(
        (".pt2",),
        "compiled for this machine (AOTInductor), for deepmd-kit, LAMMPS and C++",
        "dpa2.formats.pt2",
        runs=True,
    ),
    Format(
        (".pte",), "exported program of deepmd-kit", "dpa2.formats.dictionary_files", writes=False
    ),
    Format((".onnx",), "ONNX graph for runtimes without PyTorch", "dpa2.formats.onnx", reads=False),
    Format(
        (".savedmodel",),
        "TensorFlow SavedModel for deepmd-kit's JAX backend and LAMMPS",
        "dpa2.formats.savedmodel",
        reads=False,
        runs=True,
    ),
    Format((".hlo",), "StableHLO for deepmd-kit's JAX backend", "dpa2.formats.hlo", runs=True),
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
    return [known.name for known in formats() if known.reads]


def writable() -> list[str]:
    """Return the usual suffixes of formats that can be written."""
    return [known.name for known in formats() if known.writes]


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
