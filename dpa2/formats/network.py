"""Evaluation with our own network, from a checkpoint of this project or of deepmd-kit."""

import os
from pathlib import Path
from typing import Any

import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.conversion import in_precision
from dpa2.formats.engine import Engine, array_of
from dpa2.formats.structures import Evaluation, ModelInputs, Structures
from dpa2.formats.table import format_of
from dpa2.formats.weights import load_deepmd_state
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.base.errors import CheckpointError
from schemas.input.model import parse_model


def compile_layers(model: EnergyModel, backend: str = "inductor") -> str | None:
    """Compile the layers of a model's repformer, in place; they are most of its work.

    One layer at a time: the whole descriptor is one loop over blocks and layers, which a compiler
    unrolls into a graph that takes it ten minutes and more.

    Args:
        model: The network.
        backend: Of `torch.compile`.

    Returns:
        Why the model stays as it is, in a sentence's words; None if it is compiled.
    """
    reason = _why_unavailable(backend)
    if reason is None:
        for layer in model.descriptor.repformer.layers:
            layer.compile(dynamic=True, backend=backend)
    return reason


def _why_unavailable(backend: str) -> str | None:
    """Compile a sum, which needs all that a network needs: Python's version, C++ or Triton."""
    try:
        torch.compile(_add_one, backend=backend)(torch.zeros(2))
    except Exception as error:  # noqa: BLE001 - compilers fail with whatever goes wrong in them
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    return None


def _add_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1.0


class CheckpointEngine(Engine):
    """Evaluates with an `EnergyModel`.

    Args:
        model: The network, with its weights, on its device.
        model_params: The section that it was built from.
    """

    def __init__(self, model: EnergyModel, model_params: dict[str, Any]) -> None:
        inputs = ModelInputs(
            tuple(model.type_map),
            dim_fparam=model.fitting.num_fparam,
            dim_aparam=model.fitting.num_aparam,
            has_default_fparam=model.fitting.has_default_fparam,
        )
        super().__init__(inputs, float(model.rcut), model.device, model_params)
        self.model = model.eval()

    def evaluate(
        self,
        structures: Structures,
        *,
        atomic: bool,
        descriptor: bool,
        find_pairs: PairFinder | None = None,
    ) -> tuple[Evaluation, int]:
        """Evaluate all frames at once."""
        graph = self.model.graph(
            structures.coord,
            structures.box,
            structures.atom_types,
            find_pairs=find_pairs or pairs_within,
        )
        # deepmd-kit orders equal distances otherwise for descriptors (`dpa2.model.neighbors`).
        apart = descriptor and self.model.cutoffs().keep_slots
        prediction = self.model(
            graph,
            self.tensor(structures.fparam),
            self.tensor(structures.aparam),
            atomic_virial=atomic,
            with_descriptor=descriptor and not apart,
        )
        described = prediction.descriptor
        if apart:
            described = self.model.describe(
                self.model.graph(
                    structures.coord, structures.box, structures.atom_types, for_descriptor=True
                )
            )
        evaluation = Evaluation(
            energy=array_of(prediction.energy),
            force=array_of(prediction.force),
            virial=array_of(prediction.virial),
            atom_energy=array_of(prediction.atom_energy),
            atom_virial=array_of(prediction.atom_virial) if atomic else None,
            descriptor=None if described is None else array_of(described),
        )
        return evaluation, int(graph.num_dropped)

    def compile(self, backend: str) -> str | None:
        """Compile the layers of the repformer; return why not, or None where it was done."""
        return compile_layers(self.model, backend)


def open_checkpoint(
    path: str | os.PathLike[str],
    branch: str | None,
    device: torch.device,
    dtype: str | torch.dtype | None,
) -> tuple[CheckpointEngine, list[str]]:
    """Build the model of a checkpoint's branch; also return the names of all branches.

    Other formats that hold weights (`dpa2.formats.table`) are read like checkpoints of one task.

    Raises:
        CheckpointError: If the file or the branch cannot be used.
        ConversionError: If a file of another format holds no model of this engine.
        ConfigError: If the model is none that this engine runs.
    """
    known = format_of(Path(path))
    if known.name != ".pt":
        portable = known.read(Path(path), branch)
        if dtype is not None:
            portable = in_precision(portable, str(dtype).removeprefix("torch."))
        portable.model.requires_grad_(False)
        engine = CheckpointEngine(portable.model.to(device), portable.model_params)
        return engine, [portable.branch]
    checkpoint = read_checkpoint(Path(path))
    section, tensors = checkpoint.branch(branch)
    config = parse_model(section, path)
    if dtype is not None:
        config = parse_model(_with_precision(section, str(dtype).removeprefix("torch.")))
    model = build_model(config)
    load_deepmd_state(model, tensors)
    # Parameters are constants here: otherwise autograd would keep what their gradients need.
    model.requires_grad_(False)
    return CheckpointEngine(model.to(device), section), checkpoint.branches


def _with_precision(section: dict[str, Any], precision: str) -> dict[str, Any]:
    """Return the model section, computing in another precision than that of the training."""
    if precision not in ("float32", "float64"):
        raise CheckpointError(f"cannot compute in {precision}", hint="use float64 or float32")
    changed = dict(section)
    for name in ("descriptor", "fitting_net"):
        changed[name] = {**section[name], "precision": precision}
    return changed
