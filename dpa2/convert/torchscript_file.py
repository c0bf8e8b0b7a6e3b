"""Weights and model section out of a frozen `.pth` file, without running the code in it."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpa2.freeze.border import declare_border_operator
from schemas.checkpoint.header import TensorEntry
from schemas.checkpoint.script import Script, read_script
from schemas.errors import CheckpointError
from schemas.other_models import OURS

# Operators of deepmd-kit's C++ library that its frozen models name but use only when compressed.
_OPERATORS = {
    "tabulate_fusion_se_t_tebd": "Tensor table, Tensor info, Tensor x, Tensor y, int width",
    "tabulate_fusion_se_atten": (
        "Tensor table, Tensor info, Tensor x, Tensor y, Tensor types, int width, bool sorted"
    ),
}
# Of models that hold others and so no section of their own: what their parts are called.
_HOLDERS = {
    "backbone_model.": "a spin model",
    "atomic_model.models.": "a linear combination of models",
}
# Declarations last as long as the library object that made them.
_declared: list[torch.library.Library] = []

HISTORY_FILE = "dpa_zoo.json"
"""Extra file in the archive with the conversions that led to it."""


def read_torchscript(
    path: Path,
) -> tuple[dict[str, Any], "OrderedDict[str, Tensor]", list[dict[str, Any]]]:
    """Return a frozen model's section, its state dictionary on the CPU, and its conversions.

    The file is read as data (`schemas.checkpoint.script`): no code in it is run.

    Raises:
        CheckpointError: If it is damaged or is something else.
    """
    found = read_script(path, (HISTORY_FILE,))
    section = _json(found.attributes.get("model_def_script"))
    if not isinstance(section, dict):
        for part, kind in _HOLDERS.items():
            if any(name.startswith(part) for name in found.tensors):
                raise CheckpointError(f"{path}: {kind} (`{part.rstrip('.')}`)", hint=OURS)
        raise CheckpointError(
            f"{path} is a TorchScript file that does not describe a deep potential",
            hint="give a model written by zoo freeze or by dp --pt freeze",
        )
    history = _json(found.extra.get(HISTORY_FILE))
    state = OrderedDict((name, _tensor(found, entry)) for name, entry in found.tensors.items())
    return section, state, history if isinstance(history, list) else []


def _tensor(script: Script, entry: TensorEntry) -> Tensor:
    """Return a tensor with memory of its own."""
    dtype: torch.dtype = getattr(torch, entry.dtype)
    content = script.storages[entry.storage]
    if not entry.num_bytes:
        return torch.empty(entry.shape, dtype=dtype)
    numbers = torch.frombuffer(bytearray(content), dtype=dtype)
    return numbers.as_strided(entry.shape, entry.strides, entry.offset // dtype.itemsize).clone()


def declare_operators() -> None:
    """Make the operators of deepmd-kit that a DPA-2 model may name known to TorchScript."""
    declare_border_operator()
    for name, arguments in _OPERATORS.items():
        known = torch._C._jit_get_schemas_for_operator(f"deepmd::{name}")  # noqa: SLF001
        if not known:
            library = torch.library.Library("deepmd", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(f"{name}({arguments}) -> Tensor[]")  # type: ignore[no-untyped-call]
            _declared.append(library)


def _json(text: Any) -> Any:
    try:
        return json.loads(text or "null")
    except (TypeError, ValueError, RecursionError):
        return None
