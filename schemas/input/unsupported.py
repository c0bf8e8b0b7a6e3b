"""What deepmd-kit trains and this engine does not; the validator and the trainer both ask here."""

from collections.abc import Iterator
from typing import NamedTuple

from schemas.base.diagnostics import Path
from schemas.input.loss import EnergyLoss
from schemas.input.model import Model
from schemas.input.optimizer import TRAINED, Optimizer
from schemas.input.training import RunSettings

_PARTS = ("spin", "modifier", "compress", "use_srtab")


class Unsupported(NamedTuple):
    """What is asked for: where, in words, what to do instead."""

    path: Path
    message: str
    hint: str = "remove it, or train this model with deepmd-kit"


def foreign_parts(model: Model) -> Iterator[Unsupported]:
    """Yield the parts of a model that this engine does not have, paths below `model`."""
    for name in _PARTS:
        if getattr(model, name) is not None:
            yield Unsupported((name,), f"`{name}`: this engine does not have it")
    if model.bridging_method.lower() != "none":
        yield Unsupported(("bridging_method",), "`bridging_method`: this engine does not have it")


def foreign_optimizer(optimizer: Optimizer) -> Iterator[Unsupported]:
    """Yield the optimiser, if it is one that this trainer does not run."""
    if optimizer.type not in TRAINED:
        message = f"the optimiser {optimizer.type} is right for deepmd-kit, but not trained here"
        yield Unsupported(("type",), message, "use Adam or AdamW, or train with deepmd-kit")


def foreign_distribution(training: RunSettings) -> Iterator[Unsupported]:
    """Yield what only a training on several processes has, paths below `training`."""
    if training.zero_stage > 0:
        message = f"zero_stage {training.zero_stage}: this trainer is one process"
        yield Unsupported(("zero_stage",), message, "remove it, or train with deepmd-kit")


def foreign_records(training: RunSettings) -> Iterator[Unsupported]:
    """Yield the records of a run that this trainer does not keep, paths below `training`."""
    for name in ("profiling", "enable_profiler"):
        if getattr(training, name):
            message = f"`{name}`: this trainer keeps no such record"
            hint = "remove it, or train with deepmd-kit; `zoo plan --probe` times steps"
            yield Unsupported((name,), message, hint)


def foreign_terms(loss: EnergyLoss) -> Iterator[Unsupported]:
    """Yield the terms of a loss that this trainer does not compute, paths below `loss`."""
    for name in ("start_pref_h", "limit_pref_h"):
        if getattr(loss, name) != 0.0:
            message = "the Hessian term of the loss: this trainer does not compute it"
            hint = "set start_pref_h and limit_pref_h to 0, or train this model with deepmd-kit"
            yield Unsupported((name,), message, hint)
            return


def unequal_trainable(model: Model) -> Iterator[Unsupported]:
    """Yield a list `trainable` that is not as long as the fitting net has layers.

    deepmd-kit's PyTorch backend takes any list, and only asks whether all of it is true.
    """
    given, layers = model.fitting_net.trainable, len(model.fitting_net.neuron) + 1
    if isinstance(given, list) and len(given) != layers:
        message = (
            f"trainable has {len(given)} values, the fitting net {layers} layers: "
            f"{layers - 1} hidden ones and the last"
        )
        hint = "give one value a layer, or true or false for all"
        yield Unsupported(("fitting_net", "trainable"), message, hint)
