"""Tasks: a model with its data and its loss each, put together from the sections of an input.

docs/deepmd-format.md, 1.9.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dpa2.data.cells import check_labels
from dpa2.data.frames import FrameError, Frames, named
from dpa2.data.sampler import Sampler
from dpa2.data.system import System
from dpa2.data.systems import open_systems
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel, Prediction, tensors_to
from dpa2.model.graph import Graph
from dpa2.model.layers import mix
from dpa2.model.workers import single_threaded
from dpa2.training.loss import EnergyLoss, Labels, LossResult
from dpa2.training.moments import input_widths
from dpa2.training.statistics import resolve_auto_nsel
from schemas.base.errors import DataError
from schemas.input.root import Branch, Input, Link, MultiTaskInput, normalized

Metrics = Mapping[str, float]
"""Displayed errors by name (`rmse`, `rmse_e`, ...)."""


@dataclass(frozen=True)
class Batch:
    """Frames with their neighbours, labels on the device of the model.

    Attributes:
        frames: What it was made of, atoms in the same order; names culprits.
        graph: Neighbours.
        labels: What the loss compares with.
        mask: (F, N) float64, 1 for atoms that count in the loss.
        fparam: (F, P) or None.
        aparam: (F, N, Q) or None.
    """

    frames: Frames
    graph: Graph
    labels: Labels
    mask: Tensor
    fparam: Tensor | None
    aparam: Tensor | None

    def predict(self, model: EnergyModel, *, create_graph: bool) -> Prediction:
        """Run the model; `create_graph=True` keeps what the backward pass of a loss needs."""
        prediction: Prediction = model(
            self.graph, self.fparam, self.aparam, create_graph=create_graph
        )
        return prediction


class BatchBuilder:
    """Makes batches for a model and a loss.

    Args:
        model: Its neighbour search and device are used.
        loss: Decides which labels are needed.
    """

    def __init__(self, model: EnergyModel, loss: EnergyLoss) -> None:
        self.model = model
        self.loss = loss
        self.inputs = tuple(input_widths(model))

    @property
    def needed(self) -> tuple[str, ...]:
        """Fields of `Frames` to read beside coordinates, cells and types."""
        return (*self.loss.labels_used, *self.inputs)

    def build(self, frames: Frames) -> Batch:
        """Search neighbours and convert labels.

        Raises:
            FrameError: When a number is not finite or atoms are at one place; names system, frame
                and atom.
        """
        check_labels(frames, self.needed)
        as_in_file, frames = frames, frames.sorted_by_type()
        device = self.model.device
        try:
            graph = self.model.graph(frames.coord, frames.box, frames.atom_types)
        except FrameError:
            # Once more, so that atoms are called by their numbers in the file.
            with named(as_in_file):
                self.model.graph(as_in_file.coord, as_in_file.box, as_in_file.atom_types)
            raise
        types = torch.tensor(frames.atom_types, device=device)
        # Padding counts as little as atoms of excluded types, as in deepmd-kit's mask.
        contributes = self.model.get_buffer("contributes_T")
        mask = contributes[types.clamp(min=0)] * (types >= 0)
        values = {name: tensors_to(device, getattr(frames, name)) for name in self.needed}
        inputs: dict[str, Any] = {name: values.pop(name, None) for name in ("fparam", "aparam")}
        drdq = values.get("drdq")
        if drdq is not None:
            num_coordinates = self.loss.config.numb_generalized_coord
            values["drdq"] = drdq.reshape(*drdq.shape[:2], 3, num_coordinates)
        return Batch(frames, graph, Labels(**values), mask, **inputs)


class BatchStream:
    """Batches of a sampler, the next one prepared in the background while the model works.

    Drawing waits until `prefetch` is called, so that the sampler's state between `next` and
    `prefetch` is exactly that of the consumed batches: that is where checkpoints are taken.

    Args:
        sampler: Where frames come from.
        builder: What makes batches of them.
    """

    def __init__(self, sampler: Sampler, builder: BatchBuilder) -> None:
        self.sampler = sampler
        self.builder = builder
        self._pending: Future[Batch] | None = None

    @cached_property
    def _worker(self) -> ThreadPoolExecutor:
        return single_threaded(1, "batches")

    def next(self) -> Batch:
        """Return the next batch."""
        pending, self._pending = self._pending, None
        return self._draw() if pending is None else pending.result()

    def prefetch(self) -> None:
        """Begin with the batch after the one just consumed."""
        if self._pending is None:
            self._pending = self._worker.submit(self._draw)

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler's state; only while nothing is being prefetched."""
        assert self._pending is None, "the sampler is ahead of the training"
        return self.sampler.state_dict()

    def _draw(self) -> Batch:
        return self.builder.build(self.sampler.next())

    def close(self) -> None:
        """End the thread; what it was doing is finished first."""
        if "_worker" in vars(self):
            self._worker.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Task:
    """One branch of the training.

    Attributes:
        branch: Its sections of the input.
        model: The network; no part is shared with other branches when it is assembled.
        loss: What is minimised.
        stream: Training batches.
        validation: Validation batches, or None.
        model_params: The normalised `model` section, as it goes into checkpoints.
        seed: Of the choice of frames for statistics.
    """

    branch: Branch
    model: EnergyModel
    loss: EnergyLoss
    stream: BatchStream
    validation: BatchStream | None
    model_params: dict[str, Any]
    seed: int | None

    @property
    def name(self) -> str:
        """The branch; `Default` for the only one."""
        return self.branch.name

    @property
    def sampler(self) -> Sampler:
        """Training data."""
        return self.stream.sampler

    @property
    def builder(self) -> BatchBuilder:
        """What makes batches for this model and loss."""
        return self.stream.builder

    def compare(self, batch: Batch, learning_rate: float, *, create_graph: bool) -> LossResult:
        """Return the loss of a batch."""
        prediction = batch.predict(self.model, create_graph=create_graph)
        return self.loss(prediction, batch.labels, batch.mask, learning_rate)

    def look(self, learning_rate: float) -> Metrics:
        """Return the errors on the next training batch, which is used up by that."""
        result = self.compare(self.stream.next(), learning_rate, create_graph=False)
        return as_numbers(result.metrics)

    def validate(self, learning_rate: float) -> Metrics:
        """Return the errors on the next validation batches, weighted by their real atoms."""
        if self.validation is None or self.branch.data.validation_data is None:
            return {}
        sums: dict[str, float] = {}
        num_atoms = 0
        for _ in range(self.branch.data.validation_data.numb_btch):
            batch = self.validation.next()
            shown = as_numbers(self.compare(batch, learning_rate, create_graph=False).metrics)
            weight = int(batch.frames.real_atoms.sum())
            num_atoms += weight
            for name, value in shown.items():
                sums[name] = sums.get(name, 0.0) + value * weight
        return {name: value / num_atoms for name, value in sums.items()}


def as_numbers(metrics: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
    """Return displayed errors as floats, in one transfer from the device."""
    tensors = {name: value for name, value in metrics.items() if isinstance(value, torch.Tensor)}
    numbers = torch.stack(list(tensors.values())).tolist() if tensors else []
    found = dict(zip(tensors, numbers, strict=True))
    return {name: found[name] if name in found else float(value) for name, value in metrics.items()}


def seed_global_generator(seed: Any) -> None:
    """Seed torch's generator, from which layers without a seed of their own draw, as deepmd-kit.

    Without a seed the generator starts anywhere: torch's default one differs in every process.
    """
    if seed is not None:
        torch.manual_seed(mix([0, *seed] if isinstance(seed, list) else [0, seed]))


def stream_seed(seed: Any, stream: int) -> int | None:
    """Return the seed of a stream of random numbers; None stays random."""
    if seed is None:
        return None
    number = seed[0] if isinstance(seed, list) else seed
    return int(number) if stream == 0 else int(number) * 2654435761 % 2**32 + stream


def assemble(
    config: Input | MultiTaskInput, device: torch.device, say: Callable[[str], None]
) -> dict[str, Task]:
    """Open the data and build the models of all branches.

    Args:
        config: The checked input.
        device: Where the models go.
        say: Receives what the samplers have to warn of.

    Raises:
        DataError: When data cannot be used.
        ConfigError: When a model cannot be built.
    """
    branches = config.branches
    systems = {
        name: open_systems(
            branch.data.training_data.systems,
            branch.model.type_map,
            branch.data.training_data.rglob_patterns,
        )
        for name, branch in branches.items()
    }
    seed = config.training.seed
    start_lr = float(config.learning_rate.start_lr)
    found = {}
    for number, (name, branch) in enumerate(branches.items()):
        partners = _partners(name, config.links)
        model_config = resolve_auto_nsel(
            branch.model, [system for partner in partners for system in systems[partner]]
        )
        model = build_model(model_config).to(device)
        if model.fitting.dim_case and isinstance(config, MultiTaskInput):
            model.fitting.case_embd.zero_()[sorted(branches).index(name)] = 1.0
        loss = EnergyLoss(branch.loss, start_lr, rounds_factors=True)
        builder = BatchBuilder(model, loss)
        stream = stream_seed(seed, 2 * number)
        sampler = _sampler(branch.data.training_data, systems[name], builder, stream)
        for warning in sampler.warnings:
            say(warning)
        _say_what_teaches_nothing(sampler.systems, loss, say)
        validation = None
        if branch.data.validation_data is not None:
            data = branch.data.validation_data
            opened = open_systems(data.systems, model_config.type_map, data.rglob_patterns)
            drawn = _sampler(data, opened, builder, stream_seed(seed, 2 * number + 1))
            validation = BatchStream(drawn, builder)
        params = normalized(model_config)
        batches = BatchStream(sampler, builder)
        found[name] = Task(branch, model, loss, batches, validation, params, stream)
    return found


def _partners(name: str, links: Sequence[Link]) -> list[str]:
    """Return the branches whose descriptor is this one's, itself among them, in a fixed order."""
    shared = [link for link in links if link.component == "descriptor" and link.level == 0]
    groups = {link.owner for link in shared if link.branch == name}
    partners = {link.branch for link in shared if link.owner in groups}
    return sorted(partners | {name})


def _say_what_teaches_nothing(
    systems: Sequence[System], loss: EnergyLoss, say: Callable[[str], None]
) -> None:
    """Name the systems without any label that the loss trains.

    Raises:
        DataError: When all of them are.
    """
    idle = [system.name for system in systems if not loss.learns_from(system.labels)]
    if not idle:
        return
    named = f"{idle[0]} and {len(idle) - 1} other systems have" if idle[1:] else f"{idle[0]} has"
    trained = f"no label that the loss trains ({', '.join(loss.labels_used)})"
    if len(idle) == len(systems):
        raise DataError(
            f"{named} {trained}: nothing would be trained",
            hint="add these labels, or give weight to one that the data have",
        )
    say(
        f"{named} {trained}: steps that draw such frames train nothing (their gradient is 0; "
        "the optimiser's moments decay, as in deepmd-kit)"
    )


def _sampler(
    data: Any, systems: Sequence[System], builder: BatchBuilder, seed: int | None
) -> Sampler:
    return Sampler(
        systems,
        data.batch_size,
        auto_prob=data.auto_prob,
        sys_probs=data.sys_probs,
        seed=seed,
        min_pair_dist=getattr(data, "min_pair_dist", 0.0),
        need=builder.needed,
    )
