"""Compiled models (`.pt2`): written by AOTInductor, described, and run.

docs/deepmd-format.md, 9.

The file is the archive that torch makes, plus four members below `model/extra/`: `metadata.json`,
`model_def_script.json` and `model.json` for deepmd-kit, `dpa_zoo.json` for us.
"""

import json
import os
import platform
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from dpa2.formats.conversion import SOFTWARE, PortableModel, software_version
from dpa2.formats.dictionary_files import read, to_json, with_history
from dpa2.formats.engine import LowerEngine, LowerInput, array_of
from dpa2.formats.facts import Facts, described_wrongly, facts_of
from dpa2.formats.table import Report
from dpa2.lower.export_program import export_model
from schemas.base.errors import CheckpointError, ConversionError, first_line
from schemas.base.terminal import quiet_logger
from schemas.base.writing import atomic_write
from schemas.checkpoint.archive import (
    ArchiveEntry,
    LocalFile,
    RandomAccess,
    check_program,
    content_of,
    read_directory,
)

__all__ = ["read", "run", "write"]

# x86 processors that run the code of an earlier one in this list run that of a later one, too.
_X86 = ("DEFAULT", "AVX2", "AVX512")


class Build(BaseModel):
    """`dpa_zoo.json`: what made the program, and for which machines.

    Attributes:
        pytorch: Its version.
        device: `cpu` or `cuda`.
        machine: Kind of processor, such as `x86_64`.
        cpu: Instructions that the program uses, as PyTorch calls them.
        gpu: Compute capability, such as `9.0`; empty on a CPU.
        history: Where the weights come from (`PortableModel.with_history`).
    """

    model_config = ConfigDict(extra="ignore")

    software: str
    version: str
    pytorch: str
    python: str
    device: Literal["cpu", "cuda"]
    machine: str
    cpu: str
    gpu: str = ""
    history: list[dict[str, Any]] = []

    def foreign_to(self, device: torch.device) -> str | None:
        """Return why the program cannot run on a device of this machine; None if it can."""
        if self.device != device.type:
            return f"it was compiled for {self.device}, not for {device.type}"
        here = platform.machine()
        if self.machine != here:
            return f"it was compiled for {self.machine} processors, and this one is {here}"
        if self.device == "cuda":
            capability = _capability(device)
            if self.gpu != capability:
                return (
                    f"it was compiled for GPUs of compute capability {self.gpu}, not {capability}"
                )
            return None
        cpu = torch.backends.cpu.get_cpu_capability()
        in_order = self.cpu in _X86 and cpu in _X86
        runs = _X86.index(self.cpu) <= _X86.index(cpu) if in_order else self.cpu == cpu
        if not runs:
            return f"it was compiled for processors with {self.cpu}, and this one has {cpu}"
        return None

    @property
    def is_of_this_torch(self) -> bool:
        """Whether this is the release of PyTorch that compiled the program."""
        return self.pytorch.split(".")[:2] == torch.__version__.split(".")[:2]


def build_of(device: torch.device, history: list[dict[str, Any]]) -> Build:
    """Return a description of this machine and these versions."""
    return Build(
        software=SOFTWARE,
        version=software_version(),
        pytorch=torch.__version__,
        python=".".join(map(str, sys.version_info[:3])),
        device="cuda" if device.type == "cuda" else "cpu",
        machine=platform.machine(),
        cpu=torch.backends.cpu.get_cpu_capability(),
        gpu=_capability(device) if device.type == "cuda" else "",
        history=history,
    )


def _capability(device: torch.device) -> str:
    return ".".join(map(str, torch.cuda.get_device_capability(device)))


_MOST_BYTES = 64 << 20
_SAID = ("nnei", "dim_fparam", "dim_aparam", "fitting_output_defs", "sel_type", "output_keys")
"""What `metadata.json` must say although other formats need not."""


def read_package(path: Path) -> tuple[Facts, Build | None]:
    """Return what a file says of its model and of what made it; None where deepmd-kit did.

    Raises:
        CheckpointError: If it is no such file or is damaged.
    """
    try:
        with LocalFile(path) as source:
            entries = read_directory(source, program=True)
            metadata = _member(source, entries, "metadata.json")
            build = _member(source, entries, "dpa_zoo.json")
            params = _member(source, entries, "model_def_script.json")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a compiled model: {error}",
            hint="the download or the copy was cut short; fetch it again",
        ) from error
    if metadata is None:
        raise CheckpointError(
            f"{path} is an archive, but not of a compiled deep potential",
            hint="give a .pt2 model written by zoo freeze or by dp --pt-expt freeze",
        )
    said, section = _json(metadata, path), _json(params or b"{}", path)
    facts = Facts.parse(said | {"model_params": section}, path, _SAID)
    try:
        return facts, None if build is None else Build.model_validate_json(build)
    except ValidationError as error:
        raise described_wrongly(path, error) from error


def _json(text: bytes, path: Path) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    raise described_wrongly(path, "what should be JSON is none")


def _member(source: RandomAccess, entries: Mapping[str, ArchiveEntry], name: str) -> bytes | None:
    found = [entry for path, entry in entries.items() if path.endswith(f"extra/{name}")]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f"its member {name} is there twice")
    return content_of(source, found[0], _MOST_BYTES)


EXTRA = "model/extra/"
"""Folder of the archive for what is not torch's."""

_CPU_OPTIONS: dict[str, Any] = {"assert_indirect_indexing": False}
# deepmd-kit saw NaN in gradients of fused attention kernels on GPUs; so nothing is fused there.
_CUDA_OPTIONS: dict[str, Any] = {"realize_opcount_threshold": 0}
# Levels of x86 that have no more than what `Build.foreign_to` looks for.
_LEVELS = {"AVX2": "x86-64-v3", "AVX512": "x86-64-v4"}


def write(
    portable: PortableModel,
    path: Path,
    report: Report,
    *,
    atomic_virial: bool = False,
    device: torch.device | str = "cpu",
) -> None:
    """Compile a model for the processor or GPU of this machine. It takes minutes.

    Args:
        portable: The model, on the CPU; its parameters lose their gradients.
        path: File to write.
        report: Told what is being done.
        atomic_virial: Split virials among atoms, which makes it two to three times slower.
        device: `cpu` or `cuda`: what it is compiled for.

    Raises:
        ConversionError: If there is no C++ compiler, or torch cannot compile the model.
        WriteError: If the file cannot be written; an older one of that name is untouched.
    """
    target = torch.device(device)
    _need_compiler()
    model, history = portable.model, portable.with_history()
    extra = {
        "metadata.json": facts_of(
            model, portable.model_params, atomic_virial=atomic_virial
        ).model_dump_json(),
        "model_def_script.json": json.dumps(portable.model_params),
        "model.json": to_json(with_history(portable)),
        "dpa_zoo.json": build_of(target, history).model_dump_json(),
    }
    # Opened first: a folder that is missing is found before minutes of work, not after.
    with atomic_write(path) as stream, tempfile.TemporaryDirectory(prefix="zoo-freeze-") as folder:
        # deepmd-kit looks for its members below `model/`, which torch takes from this name.
        package = Path(folder) / "model.pt2"
        report("writing down the operators (1 of 2; up to a minute)")
        program = export_model(model, atomic_virial=atomic_virial)
        report("compiling (2 of 2; some minutes)")
        _compile(program, package, target)
        with zipfile.ZipFile(package, "a") as archive:
            for name, text in extra.items():
                archive.writestr(EXTRA + name, text)
        with package.open("rb") as made:
            shutil.copyfileobj(made, stream)


def _compile(program: ExportedProgram, package: Path, device: torch.device) -> None:
    from torch._inductor import aoti_compile_and_package

    options = _CPU_OPTIONS | _architecture()
    if device.type == "cuda":
        options |= _CUDA_OPTIONS
        program = move_to_device_pass(program, str(device))
    try:
        with quiet_logger("torch"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
    except Exception as error:
        # Compilers fail with whatever goes wrong in them.
        raise ConversionError(
            f"torch {torch.__version__} cannot compile the model: {first_line(error)[:300]}",
            hint="write a .pth file instead; ZOO_DEBUG=1 shows all that the compiler says",
        ) from error


def _architecture() -> dict[str, Any]:
    """Return the option for code that other processors of this kind run, too.

    torch's own choice is this very processor with all its extensions, and before 2.13 the only one.
    """
    from torch._inductor import config

    level = _LEVELS.get(torch.backends.cpu.get_cpu_capability())
    if platform.machine() != "x86_64" or level is None or not hasattr(config.cpp, "march"):
        return {}
    return {"cpp.march": level}


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:
        raise ConversionError(
            "a .pt2 file is compiled by a C++ compiler, and there is none here",
            hint="install g++ or name one in the environment variable CXX; a .pth file needs none",
        ) from error


class OtherTorchWarning(UserWarning):
    """A compiled model runs under another release of PyTorch than the one that compiled it."""


class CompiledEngine(LowerEngine):
    """Evaluates through the one program of the file (docs/deepmd-format.md, 9).

    Args:
        program: The loaded file.
        facts: What it says about itself.
        device: Where it computes.
    """

    def __init__(self, program: Callable[..., Any], facts: Facts, device: torch.device) -> None:
        super().__init__(self._run, facts, device)
        self._compiled = program

    def _run(self, frame: LowerInput, atomic: bool) -> dict[str, NDArray[np.float64]]:
        del atomic  # one program: it splits the virial always or never
        nlist = frame.with_slots(self.facts.nsel)
        arrays = (frame.coord, frame.types, nlist, frame.mapping, frame.fparam, frame.aparam)
        tensors = (self.tensor(array[None]) for array in arrays if array is not None)
        return {name: array_of(value) for name, value in self._compiled(*tensors).items()}


def has_program(path: Path) -> bool:
    """Tell whether a `.pt2` file takes neighbour lists; others are evaluated from their weights.

    Raises:
        CheckpointError: If it cannot be read as a compiled model.
    """
    return read_package(path)[0].lower_input_kind == "nlist"


def run(path: Path, device: torch.device) -> CompiledEngine:
    """Load a compiled model. This runs the machine code in it: only open files that you trust.

    Raises:
        CheckpointError: If it was compiled for another kind of machine, or is damaged.
    """
    check_program(path)
    facts, build = read_package(path)
    hint = f"freeze the checkpoint here, or take its weights out: zoo convert {path} model.pth"
    if build is not None:
        reason = build.foreign_to(device)
        if reason is not None:
            raise CheckpointError(f"{path} cannot run here: {reason}", hint=hint)
        if not build.is_of_this_torch:
            warnings.warn(
                f"{path} was compiled by torch {build.pytorch} and runs under "
                f"{torch.__version__}: if its numbers matter, freeze it again",
                OtherTorchWarning,
                stacklevel=3,
            )
    index = -1 if device.index is None else device.index
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch._inductor.aoti_load_package(  # noqa: SLF001 - torch has no public name
                os.fspath(path), device_index=index
            )
    except RuntimeError as error:
        made = "" if build is None else f" (compiled by torch {build.pytorch})"
        raise CheckpointError(
            f"{path} cannot be loaded by torch {torch.__version__}{made}: "
            f"{first_line(error)[:200]}",
            hint=hint,
        ) from error
    return CompiledEngine(program, facts, device)
