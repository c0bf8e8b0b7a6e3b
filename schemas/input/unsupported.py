"""What the trainer refuses of an input; the validator and the trainer both ask here."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from schemas.base.diagnostics import Path, Severity
from schemas.base.errors import ConfigError
from schemas.input.loss import PREFACTORS, EnergyLoss, term_is_on
from schemas.input.model import Model
from schemas.input.optimizer import TRAINED, Optimizer
from schemas.input.training import RunSettings

_ELSEWHERE = "remove it, or train this model with deepmd-kit"


ENERGY = "energy"
"""The one output of an energy model that has a bias."""


class Refusal(NamedTuple):
    """What is refused: where below the section, in words, what to do instead.

    `for_deepmd` is its severity for a user of deepmd-kit, where that is another.
    """

    path: Path
    message: str
    hint: str | None = _ELSEWHERE
    at: Literal["key", "value"] = "value"
    for_deepmd: Severity | None = None


def _foreign(name: str, message: str, hint: str = _ELSEWHERE) -> Refusal:
    """Return the refusal of a key that only deepmd-kit trains: for its users it is no fault."""
    return Refusal((name,), message, hint, "key", "note")


def foreign_parts(model: Model) -> Iterator[Refusal]:
    """Yield the parts of a model that this engine does not have."""
    for name in ("spin", "modifier", "compress", "use_srtab"):
        if getattr(model, name) is not None:
            yield _foreign(name, f"`{name}`: this engine does not have it")
    if model.bridging_method.lower() != "none":
        yield _foreign("bridging_method", "`bridging_method`: this engine does not have it")
    if model.type_embedding is not None:
        message = "`type_embedding` is of the TensorFlow backend; DPA-2 has its own"
        hint = "remove it; `tebd_dim` of repinit is its width"
        yield Refusal(("type_embedding",), message, hint, "key")


def foreign_hardware(section: dict[str, Any] | None) -> Iterator[Refusal]:
    """Yield the section of a hardware for which this engine does not train."""
    if section is not None:
        message = "`nvnmd`: this engine does not train for that hardware"
        yield Refusal((), message, "remove it", "key")


def unequal_trainable(model: Model) -> Iterator[Refusal]:
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
        yield Refusal(("fitting_net", "trainable"), message, hint)


def preset_faults(model: Model) -> Iterator[Refusal]:
    """Yield energies of elements that cannot be used."""
    number = len(model.type_map)
    for name, values in (model.preset_out_bias or {}).items():
        path: Path = ("preset_out_bias", name)
        if name != ENERGY:
            message = f"preset_out_bias names an output `{name}`, which an energy model lacks"
            hint = f"the output is called `{ENERGY}`; under any other name the energies are ignored"
            yield Refusal(path, message, hint)
            continue
        if len(values) != number:
            message = f"preset_out_bias has {len(values)} entries for {number} types"
            hint = "write an energy in eV, or null, for each type, in the order of type_map"
            yield Refusal(path, message, hint)
        for index, value in enumerate(values):
            if isinstance(value, list) and len(value) != 1:
                message = f"an energy is one number, this entry has {len(value)}"
                yield Refusal((*path, index), message, "write a number in eV, or null")


def foreign_optimizer(optimizer: Optimizer) -> Iterator[Refusal]:
    """Yield the optimiser, if it is one that this trainer does not run."""
    if optimizer.type not in TRAINED:
        message = f"the optimiser {optimizer.type} is right for deepmd-kit, but not trained here"
        hint = "use Adam or AdamW, or train with deepmd-kit"
        yield Refusal(("type",), message, hint, for_deepmd="note")


def foreign_distribution(training: RunSettings) -> Iterator[Refusal]:
    """Yield what only a training on several processes has."""
    if training.zero_stage > 0:
        message = f"zero_stage {training.zero_stage}: this trainer is one process"
        yield _foreign("zero_stage", message, "remove it, or train with deepmd-kit")


def foreign_records(training: RunSettings) -> Iterator[Refusal]:
    """Yield the records of a run that this trainer does not keep."""
    for name in ("profiling", "enable_profiler"):
        if getattr(training, name):
            hint = "remove it, or train with deepmd-kit; `zoo plan --probe` times steps"
            yield _foreign(name, f"`{name}`: this trainer keeps no such record", hint)


def foreign_terms(loss: EnergyLoss) -> Iterator[Refusal]:
    """Yield the terms of a loss that this trainer does not compute."""
    for name in ("start_pref_h", "limit_pref_h"):
        if getattr(loss, name) != 0.0:
            message = "the Hessian term of the loss: this trainer does not compute it"
            hint = "set start_pref_h and limit_pref_h to 0, or train this model with deepmd-kit"
            yield _foreign(name, message, hint)
            return


def huber_terms(loss: EnergyLoss) -> Iterator[Refusal]:
    """Yield the terms that the Huber loss does not have."""
    if not loss.use_huber:
        return
    if loss.relative_f is not None:
        yield Refusal(("relative_f",), "relative_f does not go with use_huber", None)
    for suffix in ("pf", "gf", "h"):
        if term_is_on(loss, suffix):
            message = f"the {PREFACTORS[suffix]} term does not go with use_huber"
            yield Refusal((f"start_pref_{suffix}",), message, None)


def norm_alone(loss: EnergyLoss) -> Iterator[Refusal]:
    """Yield a norm of forces in a loss that cannot take it."""
    if loss.f_use_norm and not (loss.use_huber or loss.loss_func == "mae"):
        hint = 'add "use_huber": true or "loss_func": "mae"'
        yield Refusal(("f_use_norm",), "f_use_norm needs use_huber or loss_func mae", hint)


def no_coordinates(loss: EnergyLoss) -> Iterator[Refusal]:
    """Yield generalised forces without generalised coordinates."""
    if term_is_on(loss, "gf") and loss.numb_generalized_coord < 1:
        message = "the generalised force term needs numb_generalized_coord >= 1"
        yield Refusal(("numb_generalized_coord",), message, None)


class Demand(NamedTuple):
    """A demand on a section of the input: the code of its rule, and what is refused there.

    `of_single_task`: deepmd-kit itself has the key in an input of one task only.
    """

    code: str
    text: str
    section: Literal["model", "loss", "optimizer", "training", "nvnmd"]
    refusals: Callable[[Any], Iterator[Refusal]]
    of_single_task: bool = False


_PARTS = "the model has only parts that this engine has"
_PRESET = "preset_out_bias has an energy, or null, for each type"
_RUN = "the run and the loss ask for what the trainer does"
_HUBER = "the Huber loss has no relative, weighted, generalised or Hessian terms"
DEMANDS = (
    Demand("ZOO113", _PARTS, "model", foreign_parts),
    Demand("ZOO113", _PARTS, "nvnmd", foreign_hardware),
    Demand("ZOO342", "a list trainable has a value for each layer", "model", unequal_trainable),
    Demand("ZOO231", _PRESET, "model", preset_faults),
    Demand("ZOO341", _RUN, "training", foreign_records),
    Demand("ZOO341", _RUN, "loss", foreign_terms),
    Demand("ZOO345", "the training is one process", "training", foreign_distribution, True),
    Demand("ZOO332", "the optimiser is one that the trainer runs", "optimizer", foreign_optimizer),
    Demand("ZOO313", _HUBER, "loss", huber_terms),
    Demand("ZOO314", "f_use_norm goes with use_huber or loss_func mae", "loss", norm_alone),
    Demand("ZOO315", "generalised forces need numb_generalized_coord", "loss", no_coordinates),
)
"""Each is a rule of the validator, and the trainer refuses the same."""


def refuse(section: Any, name: str, place: str | None = None) -> None:
    """Refuse what the trainer does not do; a checked input has none of it.

    Args:
        section: A section of the input.
        name: Which: `model`, `loss`, `optimizer`, `training` or `nvnmd`.
        place: Where it is in the input, if elsewhere than there.

    Raises:
        ConfigError: The section asks for something of the kind.
    """
    for demand in DEMANDS:
        for item in demand.refusals(section) if demand.section == name else ():
            where = ".".join([place or name, *map(str, item.path)])
            raise ConfigError(f"{where} is not supported: {item.message}", hint=item.hint)


def preset_energies(model: Model) -> list[float | None] | None:
    """Return the energy of each type, eV, None for one to fit; None when no energy is given.

    Raises:
        ConfigError: When `preset_out_bias` has a fault.
    """
    for fault in preset_faults(model):
        raise ConfigError(f"model.{fault.message}", hint=fault.hint)
    given = (model.preset_out_bias or {}).get(ENERGY)
    if given is None or all(value is None for value in given):
        return None
    return [value[0] if isinstance(value, list) else value for value in given]
