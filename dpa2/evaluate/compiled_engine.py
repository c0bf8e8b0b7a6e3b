"""Evaluation with a compiled model (`.pt2`), of this project or of deepmd-kit."""

# Axes:  F frames   N atoms   M atoms and ghosts   W slots of the neighbour list

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.evaluate.evaluation import Evaluation, join
from dpa2.evaluate.ghosts import folded, with_ghosts
from dpa2.evaluate.structures import ModelInputs, Structures
from dpa2.freeze.pt2_package import Package, read_package
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.errors import CheckpointError

SUFFIX = ".pt2"


class OtherTorchWarning(UserWarning):
    """A compiled model runs under another release of PyTorch than the one that compiled it."""


class CompiledEngine:
    """Evaluates through the one program of the file (interop specification, 9).

    Args:
        program: The loaded file.
        package: What it says about itself.
        device: Where it computes.

    Attributes:
        inputs: What the model takes.
        rcut: Cutoff of the neighbour search, Å.
        nsel: Neighbours that it takes.
        model_params: The `model` section embedded in the file.
    """

    def __init__(self, program: Any, package: Package, device: torch.device) -> None:
        self.program = program
        self.device = device
        self.metadata = package.metadata
        self.rcut = self.metadata.rcut
        self.nsel = self.metadata.nnei
        self.model_params: dict[str, Any] = json.loads(package.model_params or "{}")
        self.inputs = ModelInputs(
            tuple(self.metadata.type_map),
            dim_fparam=self.metadata.dim_fparam,
            dim_aparam=self.metadata.dim_aparam,
            has_default_fparam=self.metadata.has_default_fparam,
        )

    def evaluate(
        self,
        structures: Structures,
        *,
        atomic: bool,
        descriptor: bool,
        find_pairs: PairFinder | None = None,
    ) -> tuple[Evaluation, int]:
        """Evaluate some frames; also return the number of neighbour pairs beyond `nsel`.

        Virials of atoms are None where the program does not compute them.
        """
        if descriptor:
            raise CheckpointError(
                "a compiled model does not give its descriptor",
                hint="use the checkpoint that it was frozen from",
            )
        parts: list[Evaluation] = []
        dropped = 0
        for f in range(structures.num_frames):
            part, beyond = self._one_frame(structures.frames(f, f + 1), find_pairs or pairs_within)
            parts.append(part)
            dropped += beyond
        joined = join(parts)
        if atomic and self.metadata.do_atomic_virial:
            return joined, dropped
        return Evaluation(joined.energy, joined.force, joined.virial, joined.atom_energy), dropped

    def compile(self, backend: str) -> str:
        """Return why a compiled model is not compiled."""
        del backend
        return ".pt2 files are compiled already; load the checkpoint (.pt) instead"

    def _one_frame(self, frame: Structures, find_pairs: PairFinder) -> tuple[Evaluation, int]:
        coord, types = frame.coord[0], frame.atom_types[0]
        box = None if frame.box is None else frame.box[0]
        real = np.flatnonzero(types >= 0)
        if len(real) == 0:
            per_atom = np.zeros((1, len(coord), 3, 3))
            nothing = Evaluation(
                energy=np.zeros(1),
                force=per_atom[..., 0],
                virial=np.zeros((1, 3, 3)),
                atom_energy=per_atom[..., 0, 0],
                atom_virial=per_atom,
            )
            return nothing, 0
        i, j, displacement, distance = find_pairs(coord[real], box, self.rcut)
        i, j = real[i], real[j]
        counts = np.bincount(i, minlength=len(coord))
        dropped = int(np.maximum(counts - self.nsel, 0).sum())
        extended = with_ghosts(coord, box, (i, j, displacement, distance))
        types_M = types[extended.mapping]
        nlist = self._without_excluded(types_M, extended.nlist)
        lacking = max(0, self.nsel - nlist.shape[1])
        nlist = np.pad(nlist, ((0, 0), (0, lacking)), constant_values=-1)
        arguments = [extended.coord, types_M, nlist, extended.mapping]
        result: dict[str, Tensor] = self.program(
            *(self._tensor(array[None]) for array in arguments), *self._parameters(frame)
        )
        mapping = self._tensor(extended.mapping)
        num_atoms = len(coord)
        force_NX = folded(result["energy_derv_r"], mapping, num_atoms)
        virial_NX = folded(result["energy_derv_c"], mapping, num_atoms)
        evaluation = Evaluation(
            energy=_array(result["energy_redu"], 1),
            force=_array(force_NX, 1, num_atoms, 3),
            virial=_array(result["energy_derv_c_redu"], 1, 3, 3),
            atom_energy=_array(result["energy"], 1, num_atoms),
            atom_virial=_array(virial_NX, 1, num_atoms, 3, 3),
        )
        return evaluation, dropped

    def _parameters(self, frame: Structures) -> list[Tensor]:
        """Return fparam (1, P) and aparam (1, N, Q), as far as the model takes them."""
        found = []
        if self.inputs.dim_fparam:
            fparam = frame.fparam
            if fparam is None:
                fparam = np.array([self.metadata.default_fparam], dtype=np.float64)
            found.append(self._tensor(fparam))
        if self.inputs.dim_aparam:
            assert frame.aparam is not None
            found.append(self._tensor(frame.aparam))
        return found

    def _without_excluded(
        self, types_M: NDArray[np.int64], nlist_NW: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the list without pairs that the caller must leave out."""
        excluded = self.metadata.pair_exclude_types
        if not excluded:
            return nlist_NW
        num_types = len(self.metadata.type_map)
        keep_TT = np.ones((num_types, num_types), dtype=np.bool_)
        for a, b in excluded:
            keep_TT[a, b] = keep_TT[b, a] = False
        centers_N1 = types_M[: len(nlist_NW), None]
        return np.where(keep_TT[centers_N1, types_M[nlist_NW]], nlist_NW, -1)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.tensor(array, device=self.device)


def _array(tensor: Tensor, *shape: int) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy().reshape(shape))


def is_compiled(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a compiled model that takes neighbour lists.

    Raises:
        CheckpointError: If its name ends in `.pt2` and it cannot be read as such a model.
    """
    file = Path(path)
    if file.suffix.lower() != SUFFIX or not file.is_file():
        return False
    return read_package(file).metadata.lower_input_kind == "nlist"


def open_compiled(path: str | os.PathLike[str], device: torch.device) -> CompiledEngine:
    """Load a compiled model. This runs the machine code in it: only open files that you trust.

    Raises:
        CheckpointError: If it was compiled for another kind of machine, or is damaged.
    """
    package = read_package(Path(path))
    hint = f"freeze the checkpoint here, or take its weights out: zoo convert {path} model.pth"
    if package.build is not None:
        reason = package.build.foreign_to(device)
        if reason is not None:
            raise CheckpointError(f"{path} cannot run here: {reason}", hint=hint)
        if not package.build.is_of_this_torch:
            warnings.warn(
                f"{path} was compiled by torch {package.build.pytorch} and runs under "
                f"{torch.__version__}: if its numbers matter, freeze it again",
                OtherTorchWarning,
                stacklevel=3,
            )
    try:
        index = -1 if device.index is None else device.index
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch._inductor.aoti_load_package(  # noqa: SLF001 - torch has no public name
                os.fspath(path), device_index=index
            )
    except RuntimeError as error:
        made = "" if package.build is None else f" (compiled by torch {package.build.pytorch})"
        raise CheckpointError(
            f"{path} cannot be loaded by torch {torch.__version__}{made}: "
            f"{str(error).splitlines()[0][:200]}",
            hint=hint,
        ) from error
    return CompiledEngine(program, package, device)
