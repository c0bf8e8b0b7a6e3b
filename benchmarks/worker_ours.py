"""Our side of the comparison; runs in the project's environment.

worker_ours.py train|infer FOLDER             serve
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol import serve
from workload import water_frame

Step = Callable[[], dict[str, Any]]


def train(folder: Path) -> Step:
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

    config = checked(check_file(folder / "input.json"))
    model = build_model(config.model)
    load_deepmd_state(model, read_checkpoint(folder / "model.pt").branch()[1])
    loss = EnergyLoss(config.loss, config.learning_rate.start_lr)
    builder = BatchBuilder(model, loss)
    systems = open_systems(config.training.training_data.systems, config.model.type_map)
    stream = BatchStream(Sampler(systems, 1, seed=1, need=builder.needed), builder)
    rate = config.learning_rate.start_lr
    optimizer = build_optimizer(config.optimizer, list(model.named_parameters()), rate)

    def step() -> dict[str, Any]:
        batch = stream.next()
        stream.prefetch()
        optimizer.zero_grad(set_to_none=True)
        prediction = batch.predict(model, create_graph=True)
        result = loss(prediction, batch.labels, batch.mask, rate)
        result.total.backward()
        optimizer.step()
        return {"loss": float(result.total.detach())}

    return step


def infer(folder: Path) -> Step:
    """Return one evaluation of energy, force and virial from numpy arrays."""
    import dpa2

    potential = dpa2.load(folder / "model.pt")
    coord, box, atype = water_frame()

    def evaluate() -> dict[str, Any]:
        found = potential.predict(coord[None], box[None], atype, atomic=False)
        return {"energy": float(found.energy[0]), "force": found.force.ravel().tolist()}

    return evaluate


def main() -> None:
    """Serve the role on the command line."""
    what, folder = sys.argv[1], Path(sys.argv[2])

    def prepare() -> Step:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        return train(folder) if what == "train" else infer(folder)

    serve(prepare)


if __name__ == "__main__":
    main()
