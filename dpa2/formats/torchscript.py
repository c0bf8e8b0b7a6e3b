"""Frozen TorchScript models (`.pth`): read as data, and run."""

import json
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.data.frames import each_frame
from dpa2.formats.engine import Engine, LowerFacts, LowerInput, array_of, evaluate_frame
from dpa2.formats.structures import Evaluation, Structures
from dpa2.lower.ghost_exchange import declare_border_operator
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.base.errors import CheckpointError
from schemas.checkpoint.archive import check_program
from schemas.checkpoint.header import TensorEntry
from schemas.checkpoint.kinds import TORCHSCRIPT, check_name, kind_of
from schemas.checkpoint.script import Script, read_script
from schemas.input.model import OURS

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


# What the lower interface of a `.pth` calls the outputs of the others.
_OUTPUTS = {
    "energy": "atom_energy",
    "energy_redu": "energy",
    "energy_derv_r": "extended_force",
    "energy_derv_c": "extended_virial",
    "energy_derv_c_redu": "virial",
}


class TorchScriptEngine(Engine):
    """Evaluates through the methods of the frozen file (docs/deepmd-format.md, 8.1).

    Args:
        module: The loaded file, on its device.
        device: That device.
    """

    def __init__(self, module: torch.jit.ScriptModule, device: torch.device) -> None:
        self.module: Any = module
        self.facts = LowerFacts(
            type_map=self.module.get_type_map(),
            rcut=self.module.get_rcut(),
            sel=[self.module.get_nsel()],
            dim_fparam=self.module.get_dim_fparam(),
            dim_aparam=self.module.get_dim_aparam(),
            has_default_fparam=(
                hasattr(module, "has_default_fparam") and self.module.has_default_fparam()
            ),
        )
        model_params = json.loads(self.module.get_model_def_script() or "{}")
        super().__init__(self.facts.inputs, self.facts.rcut, device, model_params)

    def evaluate(
        self,
        structures: Structures,
        *,
        atomic: bool,
        descriptor: bool,
        find_pairs: PairFinder | None = None,
    ) -> tuple[Evaluation, int]:
        """Evaluate all frames at once; with a search of neighbours, one by one."""
        num_frames, num_atoms = structures.atom_types.shape
        real = structures.atom_types >= 0
        if find_pairs is not None and num_frames == 1 and real.all() and not descriptor:
            return evaluate_frame(self._lower, self.facts, structures, find_pairs, atomic=atomic)
        dropped = self._count_dropped(structures)
        types = torch.tensor(structures.atom_types, device=self.device)
        coord = self.tensor(structures.coord)
        box = self.tensor(structures.box, num_frames, 9)
        fparam = self.tensor(structures.fparam)
        aparam = self.tensor(structures.aparam)
        with _running("the frozen model"):
            result: dict[str, Tensor] = self.module(
                coord, types, box=box, fparam=fparam, aparam=aparam, do_atomic_virial=atomic
            )
        vectors = None
        if descriptor:
            if not hasattr(self.module, "forward_embedding"):
                raise CheckpointError(
                    "this frozen model does not give its descriptor",
                    hint="use the checkpoint that it was frozen from",
                )
            embedding = self.module.forward_embedding(coord, types, box, fparam, aparam, None)
            vectors = array_of(embedding["descriptor"])
        evaluation = Evaluation(
            energy=array_of(result["energy"], num_frames),
            force=array_of(result["force"], num_frames, num_atoms, 3),
            virial=array_of(result["virial"], num_frames, 3, 3),
            atom_energy=array_of(result["atom_energy"], num_frames, num_atoms),
            atom_virial=(
                array_of(result["atom_virial"], num_frames, num_atoms, 3, 3) if atomic else None
            ),
            descriptor=vectors,
        )
        return evaluation, dropped

    def _lower(self, frame: LowerInput, atomic: bool) -> dict[str, NDArray[np.float64]]:
        arrays = (frame.coord, frame.types, frame.nlist, frame.mapping, frame.fparam, frame.aparam)
        tensors = (self.tensor(None if array is None else array[None]) for array in arrays)
        with _running("the frozen model"):
            result: dict[str, Tensor] = self.module.forward_lower(*tensors, atomic)
        return {
            name: array_of(result[theirs]) for name, theirs in _OUTPUTS.items() if theirs in result
        }

    def _count_dropped(self, structures: Structures) -> int:
        """Return how many pairs of some frames the model ignores."""

        def dropped(f: int) -> int:
            coord = structures.coord[f][structures.atom_types[f] >= 0]
            box = None if structures.box is None else structures.box[f]
            counts = np.bincount(pairs_within(coord, box, self.rcut)[0], minlength=1)
            return int(np.maximum(counts - self.facts.nsel, 0).sum())

        return sum(each_frame(structures.num_frames, dropped))


@contextmanager
def _running(what: str | os.PathLike[str]) -> Iterator[None]:
    """Say in words that the program in a file failed; TorchScript has a kind of error for that."""
    try:
        yield
    except (torch.jit.Error, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"the program in {what} failed: {reason[-1][:200]}",
            hint="give a model written by zoo freeze or by dp --pt freeze",
        ) from error


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Tell by its content whether a file is a TorchScript model."""
    return kind_of(path) is TORCHSCRIPT


def open_torchscript(path: str | os.PathLike[str], device: torch.device) -> TorchScriptEngine:
    """Load a frozen model. TorchScript runs the code in it: only open files that you trust.

    Raises:
        CheckpointError: If the file needs code that is not here, is damaged, or is no energy model.
    """
    check_name(path)
    check_program(path)
    declare_operators()
    try:
        with warnings.catch_warnings():
            # torch deprecates TorchScript, which is still what deepmd-kit and LAMMPS load.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(os.fspath(path), map_location=device)  # type: ignore[no-untyped-call]
    except (RuntimeError, torch.jit.Error) as error:
        if "Unknown builtin op" in str(error) or "unknown type name" in str(error):
            raise CheckpointError(
                f"{path} uses C++ operators of the program that froze it",
                hint="load the checkpoint (.pt) it was frozen from, or freeze that with zoo freeze",
            ) from error
        raise CheckpointError(
            f"{path} is a damaged TorchScript file: {str(error).splitlines()[0]}",
            hint="the download or the copy was cut short; fetch it again",
        ) from error
    needed = ("get_rcut", "get_type_map", "get_dim_fparam", "model_output_type")
    if not all(hasattr(module, name) for name in needed):
        raise CheckpointError(
            f"{path} is a TorchScript file, but not of a deep potential",
            hint="give a model written by zoo freeze or by dp --pt freeze",
        )
    with _running(path):
        outputs = list(map(str, module.model_output_type()))
    if "energy" not in outputs:
        raise CheckpointError(
            f"{path} predicts {', '.join(outputs)}, not energies", hint="give an energy model"
        )
    inputs = [item.name for item in module.forward.schema.arguments if not item.has_default_value()]
    beyond = [name for name in inputs if name not in ("self", "coord", "atype")]
    if beyond:
        kind = "a spin model" if "spin" in beyond else "a model of another kind"
        raise CheckpointError(f"{path}: {kind}, which needs {', '.join(beyond)}", hint=OURS)
    with _running(path):
        return TorchScriptEngine(module.eval(), device)
