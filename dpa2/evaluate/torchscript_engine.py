"""Evaluation with a frozen TorchScript model (`.pth`), of this project or of deepmd-kit."""

import json
import os
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.evaluate.evaluation import Evaluation
from dpa2.evaluate.structures import ModelInputs, Structures
from dpa2.freeze.border import declare_border_operator
from schemas.checkpoint import archive
from schemas.errors import CheckpointError


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Tell by its content whether a file is a TorchScript archive; False if it cannot be read."""
    return archive.is_torchscript(path)


class TorchScriptEngine:
    """Evaluates through the methods of the frozen file (interop specification, 8.1).

    Args:
        module: The loaded file, on its device.
        device: That device.

    Attributes:
        inputs: What the model takes.
        rcut: Cutoff of the neighbour search, Å.
        model_params: The `model` section embedded in the file.
    """

    def __init__(self, module: torch.jit.ScriptModule, device: torch.device) -> None:
        self.module: Any = module
        self.device = device
        self.rcut = float(self.module.get_rcut())
        self.model_params: dict[str, Any] = json.loads(self.module.get_model_def_script() or "{}")
        self.inputs = ModelInputs(
            tuple(self.module.get_type_map()),
            dim_fparam=self.module.get_dim_fparam(),
            dim_aparam=self.module.get_dim_aparam(),
            has_default_fparam=(
                hasattr(module, "has_default_fparam") and bool(self.module.has_default_fparam())
            ),
        )

    def evaluate(
        self, structures: Structures, *, atomic: bool, descriptor: bool
    ) -> tuple[Evaluation, int]:
        """Evaluate some frames at once; a frozen model does not count neighbours beyond `nsel`."""
        num_frames, num_atoms = structures.atom_types.shape
        types = torch.tensor(structures.atom_types, device=self.device)
        coord = self._tensor(structures.coord)
        box = self._tensor(structures.box, num_frames, 9)
        fparam = self._tensor(structures.fparam)
        aparam = self._tensor(structures.aparam)
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
            vectors = _array(embedding["descriptor"])
        evaluation = Evaluation(
            energy=_array(result["energy"], num_frames),
            force=_array(result["force"], num_frames, num_atoms, 3),
            virial=_array(result["virial"], num_frames, 3, 3),
            atom_energy=_array(result["atom_energy"], num_frames, num_atoms),
            atom_virial=(
                _array(result["atom_virial"], num_frames, num_atoms, 3, 3) if atomic else None
            ),
            descriptor=vectors,
        )
        return evaluation, 0

    def _tensor(self, array: NDArray[np.float64] | None, *shape: int) -> Tensor | None:
        if array is None:
            return None
        return torch.tensor(array.reshape(shape or array.shape), device=self.device)


def _array(tensor: Tensor, *shape: int) -> NDArray[np.float64]:
    array = tensor.detach().to("cpu", torch.float64).numpy()
    return np.asarray(array.reshape(shape or array.shape))


def open_torchscript(path: str | os.PathLike[str], device: torch.device) -> TorchScriptEngine:
    """Load a frozen model.

    Raises:
        CheckpointError: If the file needs code that is not here, is damaged, or is no energy model.
    """
    declare_border_operator()
    try:
        with warnings.catch_warnings():
            # torch deprecates TorchScript, which is still what deepmd-kit and LAMMPS load.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(os.fspath(path), map_location=device)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
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
    outputs = list(module.model_output_type())
    if "energy" not in outputs:
        raise CheckpointError(
            f"{path} predicts {', '.join(outputs)}, not energies", hint="give an energy model"
        )
    return TorchScriptEngine(module.eval(), device)
