"""Checkpoints (`.pt`) as models: read, written, and evaluated by our own network."""

from pathlib import Path
from typing import Any

import torch

from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from dpa2.formats.conversion import PortableModel
from dpa2.formats.engine import Engine, array_of
from dpa2.formats.facts import facts_of
from dpa2.formats.structures import Evaluation, Structures
from dpa2.formats.table import Report
from dpa2.formats.weights import model_from_state, to_deepmd_state
from dpa2.model.energy import EnergyModel
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.base.errors import CheckpointError
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH, single_task_section


def read(path: Path, branch: str | None) -> PortableModel:
    """Read a branch of a checkpoint."""
    checkpoint = read_checkpoint(path)
    name = checkpoint.resolve(branch)
    _, tensors = checkpoint.branch(name)
    if not tensors:
        raise CheckpointError(
            f"{checkpoint.path} has no weights of the branch `{name}`",
            hint="the file is damaged or was written by another program",
        )
    left = []
    if len(checkpoint.branches) > 1:
        others = [other for other in checkpoint.branches if other != name]
        left.append(f"the branches {', '.join(others)}" if others[1:] else f"branch {others[0]}")
    if checkpoint.optimizer:
        left.append("the state of the optimiser")
    if checkpoint.ema:
        left.append("averaged weights (ema)")
    if checkpoint.state:
        left.append("what an exact restart needs")
    params = checkpoint.model_params
    section = single_task_section(params, name) if "model_dict" in params else params
    return PortableModel(
        model_from_state(section, tensors, checkpoint.path),
        section,
        checkpoint.path,
        branch=name,
        branches=tuple(checkpoint.branches),
        step=checkpoint.step,
        learning_rate=checkpoint.learning_rate,
        left_behind=left,
        history=list(checkpoint.history or []),
    )


def write(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a single-task checkpoint."""
    del report  # it takes no time
    write_checkpoint(
        path,
        tensors={SINGLE_TASK_BRANCH: to_deepmd_state(portable.model)},
        model_params=portable.model_params,
        step=portable.step or 0,
        learning_rate=portable.learning_rate or 0.0,
        # deepmd-kit's --init-model wants the key, and does not look at what is in it.
        optimizer={},
        history=portable.with_history(),
    )


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


class NetworkEngine(Engine):
    """Evaluates with an `EnergyModel`.

    Args:
        model: The network, with its weights, on its device.
        model_params: The section that it was built from.
    """

    def __init__(self, model: EnergyModel, model_params: dict[str, Any]) -> None:
        super().__init__(facts_of(model, model_params), model.device)
        # Parameters are constants here: otherwise autograd would keep what their gradients need.
        self.model = model.requires_grad_(False).eval()

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
