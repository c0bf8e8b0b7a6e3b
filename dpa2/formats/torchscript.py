"""Frozen TorchScript models (`.pth`): written, read as data, and run."""

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
from dpa2.formats.checkpoint import NetworkEngine
from dpa2.formats.compressed import attach_table, has_table, take_table
from dpa2.formats.conversion import PortableModel, refuse_branch
from dpa2.formats.engine import Engine, LowerEngine, LowerInput, array_of, count_dropped
from dpa2.formats.facts import Facts, facts_of
from dpa2.formats.structures import Evaluation, Structures
from dpa2.formats.table import Report
from dpa2.formats.weights import model_from_state
from dpa2.lower.frozen_model import FrozenEnergyModel
from dpa2.lower.ghost_exchange import declare_border_operator
from dpa2.model.energy import EnergyModel
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.base.errors import CheckpointError, first_line
from schemas.base.writing import atomic_write
from schemas.checkpoint.archive import check_program
from schemas.checkpoint.header import TensorEntry
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

_KINDS: dict[str, Any] = {
    **dict.fromkeys(("get_type_map", "get_observed_type_list", "model_output_type"), list[str]),
    **dict.fromkeys(("get_sel", "get_sel_type"), list[int]),
    "get_min_nbor_dist": float | None,
    "get_default_chg_spin": Tensor | None,
}
"""Types of the answers that do not show theirs."""

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


def read(path: Path, branch: str | None) -> PortableModel:
    """Read a frozen model."""
    refuse_branch(path, branch)
    section, state, history = read_torchscript(path)
    table = take_table(state)
    model = model_from_state(section, state, path)
    attach_table(model, table)
    return PortableModel(model, section, path, history=history)


def script(model: EnergyModel, model_params: dict[str, Any]) -> torch.jit.ScriptModule:
    """Return the TorchScript module of a model, which is taken apart.

    Args:
        model: A trained model; not to be used afterwards.
        model_params: The `model` section it was trained with.
    """
    declare_border_operator()
    facts = facts_of(model, model_params)
    answers = facts.answers() | {
        "get_nsel": facts.nsel,
        "get_nnei": facts.nsel,
        "get_ntypes": len(facts.type_map),
        "get_default_chg_spin": None,
        "get_observed_type_list": facts.observed_type,
        "need_sorted_nlist_for_lower": True,
        "do_grad_r": True,
        "do_grad_c": True,
    }
    kept = {
        f"answer_{name}": torch.jit.Attribute(value, _KINDS.get(name, type(value)))
        for name, value in answers.items()
    }
    with warnings.catch_warnings():
        # torch deprecates TorchScript, which is still what deepmd-kit and LAMMPS load.
        warnings.simplefilter("ignore", DeprecationWarning)
        frozen = FrozenEnergyModel(model, kept | {"model_def_script": json.dumps(model_params)})
        module = torch.jit.script(frozen.eval())
    for name in answers:
        # Modules of one type share their functions, which therefore hold no constants.
        if not module._c._has_method(name):  # noqa: SLF001 - no public name
            more = ", var_name: Optional[str] = None" if name.startswith("do_grad") else ""
            module.define(f"def {name}(self{more}):\n    return self.answer_{name}\n")
    return module


def write(portable: PortableModel, path: Path, report: Report) -> None:
    """Freeze a model; it is taken apart."""
    report("compiling to TorchScript")
    history = json.dumps(portable.with_history())
    module = script(portable.model, portable.model_params)
    # deepmd-kit keeps a data modifier in the first of these; an empty one means none.
    extra = {"data_modifier.pth": "", HISTORY_FILE: history}
    with atomic_write(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(module, stream, _extra_files=extra)


# What the lower interface of a `.pth` calls the outputs of the others.
_OUTPUTS = {
    "energy": "atom_energy",
    "energy_redu": "energy",
    "energy_derv_r": "extended_force",
    "energy_derv_c": "extended_virial",
    "energy_derv_c_redu": "virial",
}


class TorchScriptEngine(LowerEngine):
    """Evaluates through the methods of the frozen file (docs/deepmd-format.md, 8.1).

    Args:
        module: The loaded file, on its device.
        device: That device.
    """

    def __init__(self, module: torch.jit.ScriptModule, device: torch.device) -> None:
        self.module: Any = module
        facts = Facts(
            type_map=self.module.get_type_map(),
            rcut=self.module.get_rcut(),
            sel=[self.module.get_nsel()],
            dim_fparam=self.module.get_dim_fparam(),
            dim_aparam=self.module.get_dim_aparam(),
            has_default_fparam=(
                hasattr(module, "has_default_fparam") and self.module.has_default_fparam()
            ),
            model_params=json.loads(self.module.get_model_def_script() or "{}"),
        )
        super().__init__(self._lower, facts, device)

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
            return super().evaluate(
                structures, atomic=atomic, descriptor=False, find_pairs=find_pairs
            )
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
            return count_dropped(pairs_within(coord, box, self.facts.rcut)[0], self.facts.nsel)

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


def run(path: Path, device: torch.device) -> Engine:
    """Load a frozen model. TorchScript runs the code in it: only open files that you trust.

    The program of a model that deepmd-kit compressed needs deepmd-kit's C++ operators; its network
    is rebuilt from the numbers in the file.

    Raises:
        CheckpointError: If the file needs code that is not here, is damaged, or is no energy model.
    """
    check_program(path)
    declare_operators()
    try:
        with warnings.catch_warnings():
            # torch deprecates TorchScript, which is still what deepmd-kit and LAMMPS load.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Our programs say where they come from; deepmd-kit's do not.
            said: dict[str, Any] = {HISTORY_FILE: ""}
            module = torch.jit.load(os.fspath(path), map_location=device, _extra_files=said)  # type: ignore[no-untyped-call]
    except (RuntimeError, torch.jit.Error) as error:
        if "Unknown builtin op" in str(error) or "unknown type name" in str(error):
            raise CheckpointError(
                f"{path} uses C++ operators of the program that froze it",
                hint="load the checkpoint (.pt) it was frozen from, or freeze that with zoo freeze",
            ) from error
        raise CheckpointError(
            f"{path} is a damaged TorchScript file: {first_line(error)}",
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
    if not said[HISTORY_FILE] and has_table(module.state_dict()):
        portable = read(path, None)
        return NetworkEngine(portable.model.to(device), portable.model_params)
    with _running(path):
        return TorchScriptEngine(module.eval(), device)
