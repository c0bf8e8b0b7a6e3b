"""`.pt2` files: a model compiled ahead of time by AOTInductor, with everything said about it.

The file is the archive that torch makes, plus four members below `model/extra/`: `metadata.json`,
`model_def_script.json` and `model.json` for deepmd-kit, `dpa_zoo.json` for us.
"""

import json
import logging
import platform
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from dpa2.convert.dictionary import to_dictionary
from dpa2.convert.files import HISTORY_KEY
from dpa2.convert.portable import PortableModel
from dpa2.freeze.export_program import export_model
from dpa2.freeze.pt2_metadata import build_of, metadata_of, to_json
from schemas.atomic import atomic_write
from schemas.errors import ConversionError

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
