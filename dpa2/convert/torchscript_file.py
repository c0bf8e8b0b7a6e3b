"""Weights and model section out of a frozen `.pth` file, without running the code in it."""

import json
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpa2.freeze.border import declare_border_operator
from schemas.errors import CheckpointError

# Operators of deepmd-kit's C++ library that its frozen models name but use only when compressed.
_OPERATORS = {
    "tabulate_fusion_se_t_tebd": "Tensor table, Tensor info, Tensor x, Tensor y, int width",
    "tabulate_fusion_se_atten": (
        "Tensor table, Tensor info, Tensor x, Tensor y, Tensor types, int width, bool sorted"
    ),
}
# A class with this method runs it while the file is being opened.
_RUNS_ON_LOADING = re.compile(rb"def __setstate__\b")
_MOST_CODE = 64 << 20
# Declarations last as long as the library object that made them.
_declared: list[torch.library.Library] = []


HISTORY_FILE = "dpa_zoo.json"
"""Extra file in the archive with the conversions that led to it."""


def read_torchscript(
    path: Path,
) -> tuple[dict[str, Any], "OrderedDict[str, Tensor]", list[dict[str, Any]]]:
    """Return a frozen model's section, its state dictionary on the CPU, and its conversions.

    The file is opened but none of its functions is called.

    Raises:
        CheckpointError: If it is damaged, wants to run code on opening, or is something else.
    """
    _refuse_code_on_loading(path)
    declare_operators()
    try:
        with warnings.catch_warnings():
            # torch deprecates TorchScript, which is still what deepmd-kit and LAMMPS load.
            warnings.simplefilter("ignore", DeprecationWarning)
            extra = {HISTORY_FILE: ""}
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} cannot be opened: {_reason(error)}",
            hint="give the checkpoint (.pt) it was frozen from",
        ) from error
    section = _json(getattr(module, "model_def_script", None))
    if not isinstance(section, dict):
        raise CheckpointError(
            f"{path} is a TorchScript file that does not describe a deep potential",
            hint="give a model written by zoo freeze or by dp --pt freeze",
        )
    history = _json(extra[HISTORY_FILE])
    return section, OrderedDict(module.state_dict()), history if isinstance(history, list) else []


def declare_operators() -> None:
    """Make the operators of deepmd-kit that a DPA-2 model may name known to TorchScript."""
    declare_border_operator()
    for name, arguments in _OPERATORS.items():
        known = torch._C._jit_get_schemas_for_operator(f"deepmd::{name}")  # noqa: SLF001
        if not known:
            library = torch.library.Library("deepmd", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(f"{name}({arguments}) -> Tensor[]")  # type: ignore[no-untyped-call]
            _declared.append(library)


def _refuse_code_on_loading(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            code = [item for item in archive.infolist() if item.filename.endswith(".py")]
            if sum(item.file_size for item in code) > _MOST_CODE:
                raise CheckpointError(
                    f"{path} holds more code than any model", hint="do not trust this file"
                )
            runs = any(_RUNS_ON_LOADING.search(archive.read(item)) for item in code)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is damaged or no frozen model: {error}",
            hint="the download or the copy was cut short; fetch it again",
        ) from error
    if runs:
        raise CheckpointError(
            f"{path} would run code when opened: a class in it has a `__setstate__`",
            hint="no frozen DPA-2 model needs that; do not trust this file",
        )


def _json(text: Any) -> Any:
    try:
        return json.loads(text or "null")
    except (TypeError, ValueError):
        return None


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "TorchScript cannot read it"
