"""Evaluation with a frozen TorchScript model (`.pth`), of this project or of deepmd-kit."""

import json
import os
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.convert.torchscript_file import declare_operators
from dpa2.evaluate.evaluation import Evaluation
from dpa2.evaluate.ghosts import folded, with_ghosts
from dpa2.evaluate.structures import ModelInputs, Structures
from dpa2.model.neighbors import PairFinder, pairs_within
from dpa2.model.slot_order import Pairs
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
        nsel: Neighbours that it takes.
        model_params: The `model` section embedded in the file.
    """

    def __init__(self, module: torch.jit.ScriptModule, device: torch.device) -> None:
        self.module: Any = module
        self.device = device
        self.rcut = float(self.module.get_rcut())
        self.nsel = int(self.module.get_nsel())
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
        self,
        structures: Structures,
        *,
        atomic: bool,
        descriptor: bool,
        find_pairs: PairFinder | None = None,
    ) -> tuple[Evaluation, int]:
        """Evaluate some frames at once; also return the number of neighbour pairs beyond `nsel`."""
        num_frames, num_atoms = structures.atom_types.shape
        real = structures.atom_types >= 0
        if find_pairs is not None and num_frames == 1 and real.all() and not descriptor:
            return self._evaluate_with_list(structures, find_pairs, atomic=atomic)
        dropped = self._count_dropped(structures)
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
        return evaluation, dropped

    def compile(self, backend: str) -> str:
        """Return why a frozen model is not compiled."""
        del backend
        return "TorchScript files are compiled already; load the checkpoint (.pt) instead"

    def _evaluate_with_list(
        self, structures: Structures, find_pairs: PairFinder, *, atomic: bool
    ) -> tuple[Evaluation, int]:
        """Evaluate one frame with a list that was searched outside of the model."""
        coord = structures.coord[0]
        box = None if structures.box is None else structures.box[0]
        pairs = find_pairs(coord, box, self.rcut)
        extended = with_ghosts(coord, box, pairs)
        mapping = torch.tensor(extended.mapping, device=self.device)
        result: dict[str, Tensor] = self.module.forward_lower(
            torch.tensor(extended.coord[None], device=self.device),
            torch.tensor(structures.atom_types[0][extended.mapping][None], device=self.device),
            torch.tensor(extended.nlist[None], device=self.device),
            mapping[None],
            self._tensor(structures.fparam),
            self._tensor(structures.aparam),
            atomic,
        )
        num_atoms = len(coord)
        force_NX = folded(result["extended_force"], mapping, num_atoms)
        atom_virial = None
        if atomic:
            virial_NX = folded(result["extended_virial"], mapping, num_atoms)
            atom_virial = _array(virial_NX, 1, num_atoms, 3, 3)
        evaluation = Evaluation(
            energy=_array(result["energy"], 1),
            force=_array(force_NX, 1, num_atoms, 3),
            virial=_array(result["virial"], 1, 3, 3),
            atom_energy=_array(result["atom_energy"], 1, num_atoms),
            atom_virial=atom_virial,
        )
        return evaluation, self._beyond_capacity(pairs, len(coord))

    def _count_dropped(self, structures: Structures) -> int:
        """Return how many pairs of some frames the model ignores."""
        dropped = 0
        for f in range(structures.num_frames):
            coord = structures.coord[f][structures.atom_types[f] >= 0]
            box = None if structures.box is None else structures.box[f]
            dropped += self._beyond_capacity(pairs_within(coord, box, self.rcut), len(coord))
        return dropped

    def _beyond_capacity(self, pairs: Pairs, num_atoms: int) -> int:
        """Return how many pairs the model ignores."""
        counts = np.bincount(pairs[0], minlength=num_atoms)
        return int(np.maximum(counts - self.nsel, 0).sum())

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
    declare_operators()
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
