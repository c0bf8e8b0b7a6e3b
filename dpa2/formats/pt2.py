"""Compiled models (`.pt2`): written by AOTInductor, and what a file says about itself.

docs/deepmd-format.md, 9.

The file is the archive that torch makes, plus four members below `model/extra/`: `metadata.json`,
`model_def_script.json` and `model.json` for deepmd-kit, `dpa_zoo.json` for us.
"""

import json
import logging
import platform
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from dpa2.formats.conversion import SOFTWARE, PortableModel, software_version
from dpa2.formats.dictionary import to_dictionary
from dpa2.formats.files import HISTORY_KEY
from dpa2.lower.export_program import export_model
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError, ConversionError
from schemas.base.writing import atomic_write
from schemas.checkpoint.archive import ArchiveEntry, content_of, read_directory
from schemas.checkpoint.random_access import LocalFile, RandomAccess

OUTPUTS = (
    "energy",
    "mask",
    "energy_redu",
    "energy_derv_r",
    "energy_derv_c",
    "energy_derv_c_redu",
)
"""What the program returns, in this order (docs/deepmd-format.md, 9)."""

# x86 processors that run the code of an earlier one in this list run that of a later one, too.
_X86 = ("DEFAULT", "AVX2", "AVX512")


class Metadata(BaseModel):
    """`metadata.json`, in deepmd-kit's words; the constants are what is true of every DPA-2 model.

    Attributes:
        type_map: Element of each type.
        rcut: Å.
        sel: Neighbour capacity, one entry for all types.
        nnei: The same, as a number.
        dim_fparam: Frame parameters that it takes.
        dim_aparam: Parameters per atom that it takes.
        has_default_fparam: Whether `default_fparam` has numbers.
        default_fparam: What callers pass on where they are given no frame parameters.
        fitting_output_defs: What the network predicts.
        sel_type: Types whose atoms have energies.
        has_comm_artifact: Whether there is a second program for several MPI ranks.
        lower_input_kind: `nlist`: the program takes atoms with ghosts and a neighbour list.
        pair_exclude_types: Pairs of types that the caller must leave out of the list. None: our
            programs do so themselves, after the list was cut to `nnei`, as in training.
        do_atomic_virial: Whether the virial is split among atoms.
        output_keys: What the program returns.
    """

    model_config = ConfigDict(extra="ignore")

    type_map: list[str]
    rcut: float
    sel: list[int]
    nnei: int
    dim_fparam: int
    dim_aparam: int
    dim_chg_spin: int = 0
    mixed_types: bool = True
    has_default_fparam: bool = False
    default_fparam: list[float] | None = None
    has_chg_spin_ebd: bool = False
    has_default_chg_spin: bool = False
    default_chg_spin: list[float] | None = None
    chg_spin_table_ranges: list[Any] | None = None
    fitting_output_defs: list[dict[str, Any]]
    sel_type: list[int]
    is_spin: bool = False
    has_comm_artifact: bool = False
    has_message_passing: bool = True
    lower_input_kind: str = "nlist"
    graph_edge_dtype: str = "float64"
    pair_exclude_types: list[list[int]] = []
    do_atomic_virial: bool = True
    output_keys: list[str]


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
        both = (self.cpu, cpu)
        runs = cpu == self.cpu
        if all(name in _X86 for name in both):
            runs = _X86.index(self.cpu) <= _X86.index(cpu)
        if not runs:
            return f"it was compiled for processors with {self.cpu}, and this one has {cpu}"
        return None

    @property
    def is_of_this_torch(self) -> bool:
        """Whether this is the release of PyTorch that compiled the program."""
        return _release(self.pytorch) == _release(torch.__version__)


def metadata_of(model: EnergyModel, *, atomic_virial: bool) -> Metadata:
    """Return what a file must say about a model."""
    nsel = int(model.cutoffs().nsel)
    fitting = model.config.fitting_net
    default = fitting.default_fparam if model.fitting.has_default_fparam else None
    excluded = model.config.atom_exclude_types
    return Metadata(
        type_map=list(model.type_map),
        rcut=float(model.rcut),
        sel=[nsel],
        nnei=nsel,
        dim_fparam=model.fitting.num_fparam,
        dim_aparam=model.fitting.num_aparam,
        has_default_fparam=default is not None,
        default_fparam=None if default is None else [float(value) for value in default],
        fitting_output_defs=[_output("energy", physical=True), _output("mask", physical=False)],
        sel_type=[k for k in range(len(model.type_map)) if k not in excluded],
        do_atomic_virial=atomic_virial,
        output_keys=list(OUTPUTS),
    )


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


def to_json(dictionary: Mapping[str, Any]) -> str:
    """Return a model's dictionary as JSON, arrays as deepmd-kit's readers expect them."""

    def array(value: Any) -> dict[str, Any]:
        return {
            "@class": "np.ndarray",
            "@is_variable": True,
            "dtype": value.dtype.name,
            "value": value.tolist(),
        }

    return json.dumps(dictionary, default=array, separators=(",", ":"))


def _output(name: str, *, physical: bool) -> dict[str, Any]:
    return {
        "name": name,
        "shape": [1],
        "reducible": physical,
        "r_differentiable": physical,
        "c_differentiable": physical,
        "atomic": True,
        "category": 0,
        "r_hessian": False,
        "magnetic": False,
        "intensive": False,
    }


def _capability(device: torch.device) -> str:
    return ".".join(map(str, torch.cuda.get_device_capability(device)))


def _release(version: str) -> list[str]:
    return version.split(".")[:2]


_MOST_BYTES = 64 << 20
_Kind = TypeVar("_Kind", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Package:
    """A `.pt2` file.

    Attributes:
        path: Where it is.
        metadata: For everyone.
        build: What made it; None where deepmd-kit did.
        model_params: The `model` section as JSON, empty where it is not said.
    """

    path: Path
    metadata: Metadata
    build: Build | None
    model_params: str


def read_package(path: Path) -> Package:
    """Return what is said in a file.

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
    said = _parsed(Metadata, metadata, path)
    described = None if build is None else _parsed(Build, build, path)
    try:
        section = "" if params is None else params.decode()
        json.loads(section or "{}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} describes itself wrongly: its model section is no JSON",
            hint="the file is damaged; freeze the checkpoint again",
        ) from error
    return Package(path, said, described, section)


def _member(source: RandomAccess, entries: Mapping[str, ArchiveEntry], name: str) -> bytes | None:
    found = [entry for path, entry in entries.items() if path.endswith(f"extra/{name}")]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f"its member {name} is there twice")
    return content_of(source, found[0], _MOST_BYTES)


def _parsed(kind: type[_Kind], text: bytes, path: Path) -> _Kind:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its text"
        raise CheckpointError(
            f"{path} describes itself wrongly: {place}: {first['msg']}",
            hint="the file is damaged or of a newer kind; freeze the checkpoint again",
        ) from error


EXTRA = "model/extra/"
"""Folder of the archive for what is not torch's."""

_CPU_OPTIONS: dict[str, Any] = {"assert_indirect_indexing": False}
# deepmd-kit saw NaN in gradients of fused attention kernels on GPUs; so nothing is fused there.
_CUDA_OPTIONS: dict[str, Any] = {"realize_opcount_threshold": 0}
# Levels of x86 that have no more than what `Build.foreign_to` looks for.
_LEVELS = {"AVX2": "x86-64-v3", "AVX512": "x86-64-v4"}


def write_pt2(
    portable: PortableModel,
    path: Path,
    report: Callable[[str], None],
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
    tree = {
        **to_dictionary(model, portable.model_params),
        HISTORY_KEY: {"history": history},
    }
    extra = {
        "metadata.json": metadata_of(model, atomic_virial=atomic_virial).model_dump_json(),
        "model_def_script.json": json.dumps(portable.model_params),
        "model.json": to_json(tree),
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
        with _quietly():
            aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
    except Exception as error:
        # Compilers fail with whatever goes wrong in them, and say it in hundreds of lines.
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise ConversionError(
            f"torch {torch.__version__} cannot compile the model: {reason[:300]}",
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


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide what torch's compiler says about itself."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
