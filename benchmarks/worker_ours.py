"""Our side of the comparison, and the limits of the machine; runs in the project's environment.

worker_ours.py WORK                           serve; WORK: a `workload.Work` as JSON
"""

import json
import sys
from typing import Any

import torch
from protocol import Step, serve, synchronize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from workload import Work

EDGE, LENGTH = 2048, 1 << 23


def train(work: Work) -> Step:
    """Return one training step: what `dpa2.train` does between two displayed lines."""
    from dpa2.data.sampler import Sampler
    from dpa2.data.systems import open_systems
    from dpa2.formats.checkpoint import read_checkpoint
    from dpa2.formats.weights import load_deepmd_state
    from dpa2.model.build import build_model
    from dpa2.training.loss import EnergyLoss
    from dpa2.training.optimizer import build_optimizer
    from dpa2.training.task import BatchBuilder, BatchStream
    from schemas.check.input_file import check_file, checked

    config = checked(check_file(work.folder / "input.json"))
    model = build_model(config.model)
    load_deepmd_state(model, read_checkpoint(work.folder / "model.pt").branch()[1])
    model.to(work.device)
    loss = EnergyLoss(config.loss, config.learning_rate.start_lr)
    builder = BatchBuilder(model, loss)
    systems = open_systems(config.training.training_data.systems, config.model.type_map)
    stream = BatchStream(Sampler(systems, 1, seed=1, need=builder.needed), builder)
    rate = config.learning_rate.start_lr
    optimizer = build_optimizer(config.optimizer, list(model.named_parameters()), rate)

    def step() -> dict[str, Any]:
        batch = stream.next()
        stream.prefetch()
        optimizer.zero_grad()
        prediction = batch.predict(model, create_graph=True)
        result = loss(prediction, batch.labels, batch.mask, rate)
        result.total.backward()
        optimizer.step()
        synchronize(work)
        return {"loss": float(result.total.detach())}

    return step


def infer(work: Work) -> Step:
    """Return one evaluation of energy, force and virial from numpy arrays."""
    import dpa2

    potential = dpa2.load(work.folder / "model.pt", device=work.device)

    def evaluate(work: Work) -> dict[str, Any]:
        coord, box, atype = work.arrays()
        found = potential.predict(coord, box, atype, atomic=False)
        return {"energy": float(found.energy[0]), "force": found.force[0].ravel().tolist()}

    if work.once:
        evaluate(Work())
    return lambda: evaluate(work)


def product(work: Work) -> Step:
    """Return the product of two matrices."""
    left, right = torch.rand(
        2, EDGE, EDGE, dtype=getattr(torch, work.precision), device=work.device
    )

    def multiply() -> dict[str, Any]:
        torch.mm(left, right)
        synchronize(work)
        return {"gflop": 2 * EDGE**3 / 1e9}

    return multiply


def stream(work: Work) -> Step:
    """Return a + 3 b of vectors larger than caches: 24 bytes an element."""
    left, right, out = torch.rand(3, LENGTH, dtype=torch.float64, device=work.device)

    def add() -> dict[str, Any]:
        torch.add(left, right, alpha=3.0, out=out)
        synchronize(work)
        return {"gbyte": 24 * LENGTH / 1e9}

    return add


class Flops(TorchDispatchMode):
    """Counts the operations of products of matrices in this thread (two a multiplication)."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def operations(step: Step) -> dict[str, Any]:
    """Return the operations of one repetition, counted on one thread."""
    torch.set_num_threads(1)
    with Flops() as counter:
        step()
    return {"gflop": counter.total / 1e9}


def main() -> None:
    """Serve the work on the command line."""
    work = Work(**json.loads(sys.argv[1]))
    roles = {"train": train, "infer": infer, "product": product, "stream": stream}

    def prepare() -> Step:
        torch.set_num_threads(work.threads)
        return roles[work.what](work)

    serve(work, prepare, None if work.is_limit or work.once else operations)


if __name__ == "__main__":
    main()
