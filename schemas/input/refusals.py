"""What the trainer refuses of an input; the validator and the trainer both ask here."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from schemas.base.diagnostics import Finding, Path
from schemas.base.errors import ConfigError
from schemas.input.model import Model
from schemas.input.optimization import PREFACTORS, TRAINED, EnergyLoss, Optimizer, term_is_on
from schemas.input.training import RunSettings, parse_blocks

_ELSEWHERE = "remove it, or train this model with deepmd-kit"


ENERGY = "energy"
"""The one output of an energy model that has a bias."""


_refused = partial(Finding, "")
"""What is refused, at its path below the section; the rule that asks has the code."""


def _foreign(name: str, message: str, hint: str = _ELSEWHERE) -> Finding:
    """Return the refusal of a key that only deepmd-kit trains: for its users it is no fault."""
    return _refused((name,), message, hint, at="key", for_deepmd="note")


def foreign_parts(model: Model) -> Iterator[Finding]:
    """Yield the parts of a model that this engine does not have."""
    for name in ("spin", "modifier", "compress", "use_srtab"):
        if getattr(model, name) is not None:
            yield _foreign(name, f"`{name}`: this engine does not have it")
    if model.bridging_method.lower() != "none":
        yield _foreign("bridging_method", "`bridging_method`: this engine does not have it")
    if model.type_embedding is not None:
        message = "`type_embedding` is of the TensorFlow backend; DPA-2 has its own"
        hint = "remove it; `tebd_dim` of repinit is its width"
        yield _refused(("type_embedding",), message, hint, at="key")


def foreign_hardware(section: dict[str, Any] | None) -> Iterator[Finding]:
    """Yield the section of a hardware for which this engine does not train."""
    if section is not None:
        message = "`nvnmd`: this engine does not train for that hardware"
        yield _refused((), message, "remove it", at="key")


def unequal_trainable(model: Model) -> Iterator[Finding]:
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
        yield _refused(("fitting_net", "trainable"), message, hint)


def preset_faults(model: Model) -> Iterator[Finding]:
    """Yield energies of elements that cannot be used."""
    number = len(model.type_map)
    for name, values in (model.preset_out_bias or {}).items():
        path: Path = ("preset_out_bias", name)
        if name != ENERGY:
            message = f"preset_out_bias names an output `{name}`, which an energy model lacks"
            hint = f"the output is called `{ENERGY}`; under any other name the energies are ignored"
            yield _refused(path, message, hint)
            continue
        if len(values) != number:
            message = f"preset_out_bias has {len(values)} entries for {number} types"
            hint = "write an energy in eV, or null, for each type, in the order of type_map"
            yield _refused(path, message, hint)
        for index, value in enumerate(values):
            if isinstance(value, list) and len(value) != 1:
                message = f"an energy is one number, this entry has {len(value)}"
                yield _refused((*path, index), message, "write a number in eV, or null")


def foreign_optimizer(optimizer: Optimizer) -> Iterator[Finding]:
    """Yield the optimiser, if it is one that this trainer does not run."""
    if optimizer.type not in TRAINED:
        message = f"the optimiser {optimizer.type} is right for deepmd-kit, but not trained here"
        hint = "use Adam or AdamW, or train with deepmd-kit"
        yield _refused(("type",), message, hint, for_deepmd="note")


def foreign_distribution(training: RunSettings) -> Iterator[Finding]:
    """Yield what only a training on several processes has."""
    if training.zero_stage > 0:
        message = f"zero_stage {training.zero_stage}: this trainer is one process"
        yield _foreign("zero_stage", message, "remove it, or train with deepmd-kit")


def foreign_records(training: RunSettings) -> Iterator[Finding]:
    """Yield the records of a run that this trainer does not keep."""
    for name in ("profiling", "enable_profiler"):
        if getattr(training, name):
            hint = "remove it, or train with deepmd-kit; `zoo plan --probe` times steps"
            yield _foreign(name, f"`{name}`: this trainer keeps no such record", hint)


def foreign_terms(loss: EnergyLoss) -> Iterator[Finding]:
    """Yield the terms of a loss that this trainer does not compute."""
    for name in ("start_pref_h", "limit_pref_h"):
        if getattr(loss, name) != 0.0:
            message = "the Hessian term of the loss: this trainer does not compute it"
            hint = "set start_pref_h and limit_pref_h to 0, or train this model with deepmd-kit"
            yield _foreign(name, message, hint)
            return


def huber_terms(loss: EnergyLoss) -> Iterator[Finding]:
    """Yield the terms that the Huber loss does not have."""
    if not loss.use_huber:
        return
    if loss.relative_f is not None:
        yield _refused(("relative_f",), "relative_f does not go with use_huber")
    for suffix in ("pf", "gf", "h"):
        if term_is_on(loss, suffix):
            message = f"the {PREFACTORS[suffix]} term does not go with use_huber"
            yield _refused((f"start_pref_{suffix}",), message)


def norm_alone(loss: EnergyLoss) -> Iterator[Finding]:
    """Yield a norm of forces in a loss that cannot take it."""
    if loss.f_use_norm and not (loss.use_huber or loss.loss_func == "mae"):
        hint = 'add "use_huber": true or "loss_func": "mae"'
        yield _refused(("f_use_norm",), "f_use_norm needs use_huber or loss_func mae", hint)


def no_coordinates(loss: EnergyLoss) -> Iterator[Finding]:
    """Yield generalised forces without generalised coordinates."""
    if term_is_on(loss, "gf") and loss.numb_generalized_coord < 1:
        message = "the generalised force term needs numb_generalized_coord >= 1"
        yield _refused(("numb_generalized_coord",), message)


class Demand(NamedTuple):
    """A demand on a section of the input: the code of its rule, and what is refused there.

    `of_single_task`: deepmd-kit itself has the key in an input of one task only.
    """

    code: str
    text: str
    section: Literal["model", "loss", "optimizer", "training", "nvnmd"]
    refusals: Callable[[Any], Iterator[Finding]]
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


_BLOCK = "a block is first:end:weight: in `prob_sys_size;0:2:0.4;2:5:0.6` systems 0 and 1 share 0.4"
_ROUNDING = 1e-8
"""That deepmd-kit allows in sums of probabilities."""


class SystemSize(NamedTuple):
    """A system: its name, the frames of an epoch, and the atoms of a frame."""

    name: str
    frames: int
    atoms: int


def batch_size_faults(
    given: int | str | Sequence[int], systems: Sequence[SystemSize]
) -> Iterator[Finding]:
    """Yield what is wrong with a batch size for these systems, errors first."""
    if isinstance(given, str):
        yield from _filter_faults(given, systems)
        return
    is_list = not isinstance(given, int)
    sizes: Sequence[int] = [given] * len(systems) if isinstance(given, int) else given
    if len(sizes) != len(systems):
        message = f"{len(sizes)} batch sizes for {len(systems)} systems"
        hint = "write one for each system, or a single number for all"
        yield Finding("ZOO411", ("batch_size",), message, hint)
        return
    for index, (size, system) in enumerate(zip(sizes, systems, strict=True)):
        if 0 < system.frames < size:
            message = f"batch_size ({size}) is more than the {system.frames} frames of"
            path = ("batch_size", index) if is_list else ("batch_size",)
            yield Finding("ZOO412", path, f"{message} {system.name}", None, "warning")


def systems_left(
    given: int | str | Sequence[int], systems: Sequence[SystemSize]
) -> list[SystemSize]:
    """Return the systems that a batch size leaves: `filter:N` drops those of more atoms."""
    name, _, limit = str(given).partition(":")
    most = int(limit) if name == "filter" and limit.isdigit() else None
    return [system for system in systems if most is None or system.atoms <= most]


def sampling_faults(
    batch_size: int | str | Sequence[int],
    auto_prob: str,
    sys_probs: Sequence[float] | None,
    systems: Sequence[SystemSize],
) -> Iterator[Finding]:
    """Yield what is wrong with a data section of these systems; probabilities last."""
    yield from batch_size_faults(batch_size, systems)
    number = len(systems_left(batch_size, systems)) or None
    if sys_probs is not None:
        yield from probability_faults(sys_probs, number)
    else:
        yield from block_faults(auto_prob, number)
        yield from overlap_faults(auto_prob)


def _filter_faults(given: str, systems: Sequence[SystemSize]) -> Iterator[Finding]:
    left, number, limit = systems_left(given, systems), len(systems), given.partition(":")[2]
    path = ("batch_size",)
    if systems and not left:
        message = f"every system has more than {limit} atoms: none is left"
        hint = f"the smallest has {min(system.atoms for system in systems)} atoms"
        yield Finding("ZOO416", path, message, hint)
    elif len(left) < number:
        message = f"{number - len(left)} of {number} systems have more than {limit} atoms"
        yield Finding("ZOO416", path, f"{message}: they are left out", None, "warning")


def block_faults(auto_prob: str, number: int | None) -> Iterator[Finding]:
    """Yield what is wrong with the blocks of `auto_prob` for a number of systems, if known."""
    path = ("auto_prob",)
    blocks = parse_blocks(auto_prob)
    for first, end, _ in blocks:
        if first >= end:
            yield Finding("ZOO414", path, f"block {first}:{end} is empty", _BLOCK)
        elif number is not None and end > number:
            message = f"block {first}:{end} exceeds the {number} systems"
            yield Finding("ZOO414", path, message, _BLOCK)
    total = sum(weight for _, _, weight in blocks)
    if blocks and not 0 < total < math.inf:
        message = f"the weights of all blocks are {total:g}"
        yield Finding("ZOO414", path, message, _BLOCK)


def overlap_faults(auto_prob: str) -> Iterator[Finding]:
    """Yield blocks of `auto_prob` that have a system in common: the later one silently counts."""
    for (first, end, _), (other, last, _) in pairwise(sorted(parse_blocks(auto_prob))):
        if other < end and first < end and other < last:
            message = f"blocks {first}:{end} and {other}:{last} overlap"
            hint = "a block ends before its `end`: 0:2 are systems 0 and 1"
            yield Finding("ZOO425", ("auto_prob",), message, hint)


def probability_faults(given: Sequence[float], number: int | None) -> Iterator[Finding]:
    """Yield what is wrong with `sys_probs` for a number of systems, if known.

    Negative entries share what the others leave.
    """
    path: Path = ("sys_probs",)
    if number is not None and len(given) != number:
        hint = "write one for each system; an entry of -1 takes the rest"
        yield Finding("ZOO415", path, f"{len(given)} probabilities for {number} systems", hint)
    fixed = sum(value for value in given if value >= 0)
    negative = [index for index, value in enumerate(given) if value < 0]
    if negative and fixed >= 1 - _ROUNDING:
        message = f"negative probability: it takes the rest, but the others sum to {fixed:g}"
        yield Finding("ZOO415", (*path, negative[0]), message)
    elif not abs(fixed - 1) <= _ROUNDING and not (negative and fixed < 1):
        hint = "they must sum to 1; an entry of -1 takes the rest"
        yield Finding("ZOO415", path, f"the probabilities sum to {fixed:g}", hint)
