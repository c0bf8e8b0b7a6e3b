"""Checkpoints (`.pt`) in deepmd-kit's own layout: read safely, written atomically, and evaluated.

docs/deepmd-format.md, 4.

A file is a dictionary: `model` (tensors under `model.<branch>.` and `_extra_state` with the model
section and the step), `optimizer`, `ema`, and our `dpa_zoo` (what an exact resumption needs beyond
that). deepmd-kit reads only the keys it knows, so the last one does not disturb it.
"""

import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpa2.formats.conversion import PortableModel
from dpa2.formats.engine import Engine, array_of
from dpa2.formats.facts import facts_of
from dpa2.formats.structures import Evaluation, Structures
from dpa2.formats.table import Report
from dpa2.formats.weights import model_from_state, to_deepmd_state
from dpa2.model.energy import EnergyModel
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.base.errors import CheckpointError, first_line
from schemas.base.foreign_files import missing_file
from schemas.base.writing import atomic_write
from schemas.checkpoint.branch_names import (
    SINGLE_TASK_BRANCH,
    branch_names,
    resolve_branch,
    single_task_section,
)
from schemas.checkpoint.header import EXTRA, STATE_KEY, check_numbers

HISTORY_KEY = "dpa_zoo_history"
"""Where conversions are recorded that led to the file; unknown to deepmd-kit."""

_PREFIX = "model."


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        path: Where it was read.
        tensors: State dictionary with deepmd-kit's full keys (`model.<branch>....`).
        model_params: The normalised `model` section the file was trained with.
        step: 0-based index of the last executed step; None in files that do not say.
        learning_rate: Rate of that step; None in files that do not say.
        optimizer: The torch optimiser's state dictionary, or None.
        ema: `{"decay", "model", "validation_state"}`, or None.
        state: Our own state (sampler, averages ...), or None in files of deepmd-kit.
        history: The conversions that led to this file, oldest first; None where there were none.
    """

    path: Path
    tensors: "OrderedDict[str, Tensor]"
    model_params: dict[str, Any]
    step: int | None = None
    learning_rate: float | None = None
    optimizer: dict[str, Any] | None = None
    ema: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    history: list[dict[str, Any]] | None = None

    @property
    def steps_done(self) -> int | None:
        """Steps that were done; None in files that do not say."""
        if self.state is not None:
            return int(self.state["steps_done"])
        return None if self.step is None else self.step + 1

    @property
    def branches(self) -> list[str]:
        """Names of the branches, in the order of the file; `["Default"]` for a single task."""
        return branch_names(self.model_params)

    def resolve(self, name: str | None = None) -> str:
        """Return a branch's exact name, given that name or an alias, if need be in another case.

        Raises:
            CheckpointError: When the file has several branches and none, or an unknown one, is
                named; the hint lists them, with the nearest first.
        """
        return resolve_branch(self.path, self.model_params, name)

    def branch(self, name: str | None = None) -> tuple[dict[str, Any], "OrderedDict[str, Tensor]"]:
        """Return the model section and the tensors (keys without `model.<branch>.`) of a branch.

        Args:
            name: Which branch (see `resolve`); may be left out where there is only one.

        Raises:
            CheckpointError: As `resolve`.
        """
        chosen = self.resolve(name)
        section = self.model_params.get("model_dict", {}).get(chosen, self.model_params)
        prefix = f"{_PREFIX}{chosen}."
        tensors = OrderedDict(
            (key.removeprefix(prefix), tensor)
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        )
        return section, tensors


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of deepmd-kit or of ours; the tensors arrive on the CPU.

    No code in the file is ever run (`weights_only=True`). As with `dp`, the suffix `.pt` may be
    left out.

    Raises:
        CheckpointError: Says what the file is when it is not a checkpoint.
    """
    file = Path(path)
    if not file.exists() and file.with_name(file.name + ".pt").exists():
        file = file.with_name(file.name + ".pt")
    if not file.exists():
        raise missing_file(file)
    if file.is_dir():
        raise CheckpointError(
            f"{file} is a folder, not a checkpoint",
            hint=f"name the file in it, for example {file / 'model.ckpt.pt'}",
        )
    # Torch refuses what would run code, but believes the sizes that a file claims.
    infos = check_numbers(file).train_infos
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{file} cannot be loaded by torch {torch.__version__}: {first_line(error)}",
            hint="give a model.ckpt-N.pt written by zoo train or by dp --pt train",
        ) from error
    model = content["model"] if isinstance(content.get("model"), Mapping) else content
    beside = {} if content is model else content
    return Checkpoint(
        path=file,
        tensors=OrderedDict((key, value) for key, value in model.items() if key != EXTRA),
        model_params=dict(model[EXTRA]["model_params"]),
        step=infos.get("step"),
        learning_rate=infos.get("lr"),
        optimizer=beside.get("optimizer") or None,
        ema=beside.get("ema"),
        state=beside.get(STATE_KEY),
        history=beside.get(HISTORY_KEY),
    )


def write_checkpoint(
    path: Path | str,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    model_params: Mapping[str, Any],
    step: int,
    learning_rate: float,
    optimizer: Mapping[str, Any] | None = None,
    ema: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write a checkpoint; it has its name only once it is complete and on the disk.

    Equal content gives equal bytes, so that two runs can be compared with `cmp`.

    Args:
        path: The file, `model.ckpt-N.pt`.
        tensors: Per branch the state dictionary, keys without `model.<branch>.`.
        model_params: The normalised `model` section.
        step: 0-based index of the last executed step.
        learning_rate: Rate of that step.
        optimizer: deepmd-kit's optimiser section, or None to leave it out.
        ema: The averages' section, or None to leave it out.
        state: Our own state: containers, numbers, strings and tensors only.
        history: The conversions that led to the model, or None to leave them out.

    Raises:
        WriteError: When the file cannot be written; an older one of that name is untouched.
    """
    extra = {
        "model_params": model_params,
        "train_infos": {"lr": float(learning_rate), "step": int(step)},
    }
    names = (
        (f"{_PREFIX}{branch}.{key}", t) for branch, d in tensors.items() for key, t in d.items()
    )
    sections = {
        "model": OrderedDict([(EXTRA, extra), *names]),
        "optimizer": optimizer,
        "ema": ema,
        STATE_KEY: state,
        HISTORY_KEY: None if history is None else list(history),
    }
    content = canonical({key: value for key, value in sections.items() if value is not None})
    content["model"] = _with_metadata(OrderedDict(content["model"]))
    with atomic_write(path) as stream:
        torch.save(content, stream)


def canonical(value: Any) -> Any:
    """Return a copy in fresh plain containers with one object per distinct string.

    Pickle writes a repeated object as a back reference. Rebuilding everything makes its output
    depend on the values alone, not on how the program came by them.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {canonical(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, tuple):
        return tuple(canonical(item) for item in value)
    return value


def _with_metadata(state: "OrderedDict[str, Any]") -> "OrderedDict[str, Any]":
    """Attach the version table that torch's own state dictionaries carry."""
    modules = OrderedDict({"": {"version": 1}})
    for key in state:
        parts = key.split(".")[:-1]
        for depth in range(1, len(parts) + 1):
            modules.setdefault(sys.intern(".".join(parts[:depth])), {"version": 1})
    state._metadata = modules  # type: ignore[attr-defined]  # noqa: SLF001 - torch's own name
    return state


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
        return first_line(error)
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

    @torch.inference_mode(mode=False)
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
