"""Rules about single keys: those without effect or overridden, and numbers out of range."""

from collections.abc import Iterator
from typing import Any

from schemas.base.diagnostics import Group, Path
from schemas.check.data_folders import sections
from schemas.check.rule import Fault, rule, warning
from schemas.check.schema_faults import shown
from schemas.input.fields import Field, fields, marked
from schemas.input.root import Input
from schemas.input.section import NO_DEFAULT, Needs, Section, Usual, canonical_precision
from schemas.input.unsupported import (
    Unsupported,
    foreign_distribution,
    foreign_parts,
    foreign_records,
    foreign_terms,
    unequal_trainable,
)
from schemas.input.view import UnusableError, class_of

_IGNORED = {
    "model": ("data_bias_nsample", "srtab_add_bias"),
    "model.fitting_net": ("layer_name", "rcond"),
    "learning_rate": ("scale_by_worker",),
    "training": (
        "acc_freq",
        "mixed_precision",
        "enable_compile",
        "enable_tf32",
        "neighbor_graph_method",
    ),
    "validating": ("compiled_infer", "tf32_infer", "amp_infer"),
}


@rule("ZOO111", "keys have an effect")
def keys_have_effect(config: Input) -> Iterator[Fault]:
    """Warn of keys that are ignored: by the PyTorch backend, or because of another key."""
    yield from _keys_of_what_is_off(config)
    for path, names in _IGNORED.items():
        section: Section = config
        for part in path.split("."):
            section = getattr(section, part)
        for name in names:
            if name in section.model_fields_set and _matters(section, name):
                message = f"`{name}` has no effect in the PyTorch backend"
                fault = warning(f"{path}.{name}", message, "remove it")
                yield Fault(fault.path, message, "remove it", severity="warning", at="key")


def _keys_of_what_is_off(config: Input) -> Iterator[Fault]:
    for field, needs in marked(config, Needs):
        if field.given and field.value != field.default and unmet(field, needs):
            name, others = str(field.path[-1]), " or ".join(f"`{key}`" for key in needs.keys)
            message = f"`{name}` has no effect: it goes with {others}"
            yield Fault(field.path, message, "remove it", severity="warning", at="key")


def unmet(field: Field, needs: Needs) -> bool:
    """Return whether a key is without effect because of the other keys of its section."""
    return not any(getattr(field.section, key) for key in needs.keys)


def _matters(section: Section, name: str) -> bool:
    """Return whether a key is written with a value other than its default."""
    defaults = {"data_bias_nsample": 10, "srtab_add_bias": True, "scale_by_worker": "linear"}
    defaults |= {"acc_freq": 1, "neighbor_graph_method": "auto"}
    try:
        value = getattr(section, name)
    except UnusableError:
        return False
    return value not in (None, False) if name not in defaults else value != defaults[name]


@rule("ZOO113", "the model has only parts that this engine has")
def parts_are_ours(config: Input) -> Iterator[Fault]:
    """Refuse parts of a model that this engine does not have."""
    for item in foreign_parts(config.model):
        yield elsewhere(("model", *item.path), item)
    if config.model.type_embedding is not None:
        message = "`type_embedding` is of the TensorFlow backend; DPA-2 has its own"
        hint = "remove it; `tebd_dim` of repinit is its width"
        yield Fault("model.type_embedding", message, hint, at="key")
    if config.nvnmd is not None:
        message = "`nvnmd`: this engine does not train for that hardware"
        yield Fault("nvnmd", message, "remove it", at="key")


def elsewhere(path: Path, item: Unsupported) -> Fault:
    """Return the fault of what only deepmd-kit trains: for its users it is none."""
    return Fault(path, item.message, item.hint, at="key", for_deepmd="note")


@rule("ZOO345", "the training is one process", scope="single-task")
def one_process_trains(config: Input) -> Iterator[Fault]:
    """Refuse to distribute what only deepmd-kit distributes; it does so in single tasks only."""
    for item in foreign_distribution(config.training):
        yield elsewhere(("training", *item.path), item)


@rule("ZOO341", "the run and the loss ask for what the trainer does")
def run_is_ours(config: Input) -> Iterator[Fault]:
    """Refuse records of a run and terms of a loss that only deepmd-kit has."""
    for item in foreign_records(config.training):
        yield elsewhere(("training", *item.path), item)
    for item in foreign_terms(config.loss):
        yield elsewhere(("loss", *item.path), item)


@rule("ZOO342", "a list trainable has a value for each layer")
def every_layer_is_told(config: Input) -> Iterator[Fault]:
    """Demand one value a layer; the list counts as a whole."""
    for item in unequal_trainable(config.model):
        yield Fault(("model", *item.path), item.message, item.hint)


@rule("ZOO343", "deepmd-kit makes batches by the same rule")
def batches_are_portable(config: Input) -> Iterator[Fault]:
    """Say that a rule for batches is ours alone."""
    for name, section in sections(config):
        if isinstance(section.batch_size, str) and section.batch_size.startswith("mixed:"):
            message = f"deepmd-kit's PyTorch backend does not know `{section.batch_size}`"
            hint = 'it trains here; for deepmd-kit write "auto:N" or "max:N"'
            path = f"training.{name}.batch_size"
            yield Fault(path, message, hint, severity="note", for_deepmd="error")


@rule("ZOO344", "descriptor and fitting net have one precision")
def precision_is_one(config: Input) -> Iterator[Fault]:
    """Warn of networks of different precision, most often a key that was forgotten."""
    descriptor = canonical_precision(config.model.descriptor.precision)
    fitting = canonical_precision(config.model.fitting_net.precision)
    if descriptor != fitting:
        message = f"the descriptor computes in {descriptor}, the fitting net in {fitting}"
        hint = "the coarser one decides how exact energies are; write one `precision` in both"
        yield warning("model.fitting_net.precision", message, hint)


_WINNERS: dict[str, tuple[str, ...]] = {"ckpt_keep_ratio": ("max_ckpt_keep", "ema_ckpt_keep")}
"""Keys of `training` that make others there count for nothing."""


@rule("ZOO360", "of two keys the one that counts is the only one")
def nothing_is_overridden(config: Input) -> Iterator[Fault]:
    """Warn of a key that another one makes count for nothing."""
    for name, section in sections(config):
        if section.sys_probs is not None and _changed(section, "auto_prob"):
            yield _loses(("training", name), "auto_prob", "sys_probs")
    if config.loss.loss_func == "mae" and config.loss.use_huber:
        yield _loses(("loss",), "use_huber", "loss_func")
    for winner, losers in _WINNERS.items():
        for loser in losers if getattr(config.training, winner) is not None else ():
            if _changed(config.training, loser):
                yield _loses(("training",), loser, winner)


def _changed(section: Section, name: str) -> bool:
    """Return whether a key is written with another value than its default."""
    kind = class_of(section)
    default = kind.model_fields[name].default if kind is not None else None
    return name in section.model_fields_set and getattr(section, name) != default


def _loses(home: tuple[str, ...], loser: str, winner: str) -> Fault:
    message = f"`{loser}` has no effect: `{winner}` is given too, and counts"
    related = (("what counts", (*home, winner)),)
    hint = "keep the one that is meant"
    return Fault((*home, loser), message, hint, severity="warning", at="key", related_paths=related)


_INT64 = 2**63 - 1
_FLOAT32 = 3.4028234663852886e38
_SMALLEST_FLOAT32 = 1.1754943508222875e-38
_SEED = 2**32 - 1
_MOST_ATOMS = 10**6
_BEYOND = Group("numbers beyond their type")


@rule("ZOO351", "numbers are within the usual")
def numbers_are_usual(config: Input) -> Iterator[Fault]:
    """Warn of numbers with which no run is known to train."""
    for field, usual in marked(config, Usual):
        if field.value == field.default or not field.given:
            continue
        name = str(field.path[-1])
        if field.value == 0 and usual.zero:
            yield warning(field.path, f"{name} is 0: {usual.zero}")
        elif field.value == [] and usual.zero:
            yield warning(field.path, f"{name} is empty: {usual.zero}")
        if isinstance(field.value, list) and usual.entries and len(field.value) > usual.entries:
            message = f"{name} has {len(field.value)} entries, the usual are up to {usual.entries}"
            yield warning(field.path, message)
        for path, number in _numbers(field.path, field.value):
            side = _outside(number, usual)
            if side is not None:
                why = f": {usual.why}" if usual.why else ""
                message = f"{name} ({shown(number)}) is far {side}{why}"
                is_absurd = usual.limit is not None and number > usual.limit
                yield Fault(path, message, severity="error" if is_absurd else "warning")
        if name == "batch_size" and isinstance(field.value, str):
            atoms = field.value.partition(":")[2]
            if atoms.isdigit() and int(atoms) > _MOST_ATOMS:
                yield warning(field.path, f"{name} ({field.value}): no batch has that many atoms")


def _outside(number: float, usual: Usual) -> str | None:
    if number == 0:
        return None
    if usual.low is not None and number < usual.low:
        return f"below the usual, {usual.low:g} and more"
    if usual.high is not None and number > usual.high:
        return f"above the usual, up to {usual.high:g}"
    return None


@rule("ZOO352", "numbers are within their type")
def numbers_fit_their_type(config: Input) -> Iterator[Fault]:
    """Demand whole numbers of 64 bits, and real ones that are still one in float32."""
    for field in fields(config):
        if not field.given or str(field.path[-1]) == "info":
            continue
        for path, number in _numbers(field.path, field.value):
            name = str(field.path[-1])
            if isinstance(number, int) and not -_INT64 - 1 <= number <= _INT64:
                message = f"{name} ({shown(number)}) is beyond a whole number of 64 bits"
                hint = f"they go from {-_INT64 - 1} to {_INT64}"
                yield Fault(path, message, hint, group=_BEYOND)
            elif isinstance(number, float) and abs(number) > _FLOAT32:
                message = f"{name} ({number:g}) is beyond float32: networks would see infinity"
                yield Fault(path, message, "it goes up to 3.4e38", group=_BEYOND)
            elif isinstance(number, float) and 0 < abs(number) < _SMALLEST_FLOAT32:
                message = f"{name} ({number:g}) is too small for float32: networks would see 0"
                yield Fault(path, message, "it begins at 1.2e-38; write 0 if that is meant")


@rule("ZOO353", "seeds are whole numbers of 32 bits")
def seeds_are_not_cut(config: Input) -> Iterator[Fault]:
    """Warn of seeds of which only some bits count, and of lists, which deepmd-kit refuses."""
    for field in fields(config):
        if field.path[-1] != "seed" or not field.given:
            continue
        if isinstance(field.value, list):
            message = "the seed is a list: deepmd-kit refuses that in an input"
            yield warning(field.path, message, "write one whole number")
        elif isinstance(field.value, int) and _SEED < field.value <= _INT64:
            if field.path[0] == "training":
                cut = field.value & _SEED
                message = f"seed ({field.value}) has more than 32 bits: it does the same as {cut}"
                yield warning(field.path, message, f"seeds go from 0 to {_SEED}")
            else:
                message = f"seed ({field.value}) has more than 32 bits"
                yield warning(field.path, message, f"seeds go from 0 to {_SEED}")


@rule("ZOO362", "null is written only where deepmd-kit reads it")
def nulls_are_read(config: Input) -> Iterator[Fault]:
    """Warn of a key that is null where deepmd-kit wants a value or no key."""
    for field in fields(config):
        if field.given and field.value is None and NO_DEFAULT in field.marks:
            name = str(field.path[-1])
            if name in _NULL_IS_READ:
                continue
            message = f"{name} is null: it counts as not given here, deepmd-kit refuses it"
            yield Fault(field.path, message, "remove the key", "warning", at="key")


_NULL_IS_READ = frozenset({"seed", "numb_steps", "numb_epoch", "relative_f"})
"""Keys without a default that may be null, or of whose absence another rule speaks."""


def _numbers(path: Path, value: Any) -> Iterator[tuple[Path, float]]:
    """Yield the numbers in a value: itself, or those in lists and objects."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers((*path, index), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers((*path, str(key)), item)
