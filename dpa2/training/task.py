"""A task: one model with its data and its loss. A training draws one of its tasks for each step."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dpa2.data.cells import check_labels
from dpa2.data.frames import FrameError, Frames, named
from dpa2.data.sampler import Sampler
from dpa2.model.energy import EnergyModel, Prediction, tensors_to
from dpa2.model.graph import Graph
from dpa2.training.loss import EnergyLoss, Labels, LossResult
from schemas.input.root import Branch

Metrics = Mapping[str, float]


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
        fitting = model.fitting
        inputs = (("fparam", fitting.num_fparam), ("aparam", fitting.num_aparam))
        self.inputs = tuple(name for name, width in inputs if width)

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


def _single_threaded_worker() -> ThreadPoolExecutor:
    """Return a thread whose torch operators use no further threads.

    With a pool of its own, twice as many threads compute as there are cores, and then both pools
    sleep between operators: training steps took twice the time.
    """
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    num_threads = torch.get_num_threads()
    worker.submit(_use_one_thread).result()
    torch.set_num_threads(num_threads)  # the default of threads still to come, which that changed
    return worker


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes its number for good when first asked


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
        return _single_threaded_worker()

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
